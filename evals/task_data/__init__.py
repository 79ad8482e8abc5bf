"""The data of tasks: what a task file says, rows of tables, questions, images by name."""
