"""Where items come from: readers of question files, images, exact sampling and scoring."""
