"""What the lessons share: `checking` says what is wrong with an answer; one module a lesson holds its data."""
