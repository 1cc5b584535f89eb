"""The three tools in the browser: a desk keeps what a person does with one of them, a board shows it."""
