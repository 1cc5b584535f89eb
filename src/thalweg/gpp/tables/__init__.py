"""Tables of flux towers, read strictly, column by column."""
