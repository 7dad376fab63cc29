"""Retrieval from scratch: generated tasks, the training of small models on them, and the accuracy of their answers."""
