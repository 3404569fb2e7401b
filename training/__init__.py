"""What a training needs besides the model: data, trainer, run folder, reports, the grid."""
