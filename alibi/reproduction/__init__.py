"""The reproduction: experiments as data, their cells, the runner, and verdicts on claims by records."""
