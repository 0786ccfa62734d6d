"""Studies: published claims put to the test, with intervals over seeds."""
