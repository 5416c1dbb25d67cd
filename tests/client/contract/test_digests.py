from backdoor_audit.contract.digests import content_digest


def test_a_folders_digest_does_not_depend_on_order_but_on_names():
    one, two = ("a", "1" * 64), ("b", "2" * 64)
    assert content_digest([one, two]) == content_digest([two, one])
    assert content_digest([one]) != content_digest([("c", "1" * 64)])
    assert content_digest([one]).startswith("sha256:")
