"""The book: chapters executed and built into a site, their parameters, and the figures and tables in them."""
