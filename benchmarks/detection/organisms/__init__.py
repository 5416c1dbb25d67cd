"""The models of the benchmark: what each is trained on, how it is made and measured."""
