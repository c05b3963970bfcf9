"""Keys of the verbs of ``attngraft retrieve``, with what they mean: for help, completion and checks."""

from __future__ import annotations

INDEX = "my.index"
BUILD_KEYS = {
    "model": "A text model's folder or hub id; a detector's checkpoint or recipe.",
    "source": "Texts (.jsonl, a BEIR folder) or images (a folder, a list, a data.yaml).",
    "preset": "paper: the paper's procedure, literally; none: without its prompt.",
    "center": "Whether to subtract each head's mean key: the first thing to try.",
    "rule": "How heads vote: decay, equal, rrf or max.",
    "depth": "How many items each head votes for at least.",
    "store": "arrays: exact; lance: LanceDB, for what outgrows memory.",
    "dtype": "How keys are stored: float32 or float16.",
    "standard": "Whether to keep the pooled key too, which controls need.",
    "batch": "Items at once.",
    "layers": "Which attentions' heads, such as -1 or -1,-2.",
}
TEXT_KEYS = {
    "pooling": "Which tokens a key is of: last, mean or first.",
    "prompt": "Around a query, such as 'Query: {text}'.",
    "document": "Around a document.",
    "max_tokens": "Most tokens of a text.",
    "precision": "Precision of the model's weights: float32, bfloat16, float16 or auto.",
    "gguf_file": "Name of a GGUF file in the model's folder.",
    "device": "Where a text model runs, such as cpu or cuda.",
}
IMAGE_KEYS = {"imgsz": "Side of the input.", "confidence": "Least score of a detection that becomes a part."}
INDEX_KEYS = BUILD_KEYS | TEXT_KEYS | IMAGE_KEYS | {"output": "Folder of the index."}
SEARCH_KEYS = {
    "n": "How many items to find.",
    "where": "A filter on fields, such as \"split = 'val'\".",
    "parts": "What votes instead of the whole query: sentences, crops, objects or tiles.",
    "center": "Whether to subtract each head's mean key.",
    "rule": "How heads vote: decay, equal, rrf or max.",
    "depth": "How many items each head votes for at least.",
    "query": "The text, or the image.",
    "model": "The model, where it is no longer at the place that the index names, or more than data.",
    "output": "File to write, one hit a line in JSON.",
}
EVAL_KEYS = {
    "beir": "The benchmark: a folder with corpus.jsonl, queries.jsonl and qrels.tsv or qrels/test.tsv.",
    "rows": "Ways to retrieve, such as standard,joined-centred,mrag,tfidf; all of them by default.",
    "runs": "TREC run files of other systems, each a row of its own.",
    "n": "How many documents are retrieved.",
    "depth": "How many are ranked: where curves end, and how deep heads vote.",
    "weight": "How many times as much a document counts as a category.",
    "category": "The field of a document that holds its category.",
    "measures": "Further measures of ir_measures, such as nDCG@10,RR.",
    "seed": "Seed of the bootstrap.",
    "split": "Which qrels/SPLIT.tsv is read where there is no qrels.tsv.",
    "model": "The model, where it is no longer at the place that the index names, or more than data.",
    "output": "A page (.html), results (.json), or a folder for both and the run files.",
}


MINE_KEYS = {
    "model": "A detector's checkpoint.",
    "source": "Unlabelled images: a folder, a list, a data.yaml.",
    "like": "The misses: a data.yaml with labels, or a .txt of images and boxes.",
    "n": "How many images to find.",
    "diverse": "Whether misses take turns, and near-duplicates come last.",
    "parts": "How a miss asks: objects, inside its image, or crops.",
    "split": "The split of a data.yaml in which misses are looked for.",
    "center": "Whether to subtract each head's mean key.",
    "confidence": "Least score of a detection that counts.",
    "layers": "Which attentions' heads.",
    "imgsz": "Side of the input.",
    "output": "Folder to write.",
}
MINED = "mined"
