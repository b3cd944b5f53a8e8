"""How good it is, in numbers: metrics, and the exam that measures a model by them."""
