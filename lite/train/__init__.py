"""Training, a thin companion on Lightning (extra `train`): recipes in `lite/recipes`, weights straight into `export`."""
