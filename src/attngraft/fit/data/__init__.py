"""Read data sets of images: folders of classes and pairs, COCO's JSON, YOLO's data.yaml."""
