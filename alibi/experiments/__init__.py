"""The paper's experiments as data: one file a table or figure, each listing its training runs and evaluations."""
