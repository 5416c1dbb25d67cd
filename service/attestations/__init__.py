"""What can be handed on about an audit: a statement, a signed attestation, and a bill of materials."""
