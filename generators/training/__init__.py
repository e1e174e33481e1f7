"""How systems learn: the adversarial training and its losses."""
