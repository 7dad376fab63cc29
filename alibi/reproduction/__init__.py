"""The reproduction: experiments as data, the cells they are made of, what runs them, and what records say of claims."""
