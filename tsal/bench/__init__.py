"""Methods compared under equal conditions; speeds."""
