"""Annotation lists, rendered faces, views of faces for training."""
