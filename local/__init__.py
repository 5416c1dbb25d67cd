"""``backdoor-audit serve``: the whole stack on one machine, and ``backdoor-audit doctor``."""
