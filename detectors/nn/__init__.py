"""Networks and number formats that detectors are made of."""
