"""Well-known networks in Flax and, as JSON, their cut tables. `python -m jaxmec.profiles.zoo` makes the tables."""
