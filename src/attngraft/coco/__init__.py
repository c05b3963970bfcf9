"""COCO's evaluation of detections: masks, matching, average precision and error types, under everything that trains."""
