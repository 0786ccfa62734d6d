"""The comparison as figures: SVG written by hand, and the data of each as rows."""
