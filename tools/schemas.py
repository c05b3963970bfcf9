"""Write the JSON schemas that are published with the package, from the classes that they describe.

python tools/schemas.py
"""

from __future__ import annotations

import json

from attngraft._core.files import write_text
from attngraft.study.judging import results

SCHEMAS = {results.SCHEMA: results.schema}

if __name__ == "__main__":
    for file, schema in SCHEMAS.items():
        write_text(file, json.dumps(schema(), indent=1) + "\n")
