"""Finding the trigger: strings that a fine-tuned model may react to, proposed by search and judged by the audit."""
