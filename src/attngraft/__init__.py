"""Attention for object detectors: graft any mechanism into any YOLO, and find out honestly whether it helped."""
