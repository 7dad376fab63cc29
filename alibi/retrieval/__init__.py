"""Retrieval from scratch: generated tasks, the training of small models on them, and how often they answer right."""
