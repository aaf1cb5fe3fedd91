"""Holds what a node said against the documents that describe it.

    validate.py openapi DOCUMENT SAMPLES    the document is OpenAPI 3.1; each sample fits the schema of its response
    validate.py asyncapi DOCUMENT SAMPLES   each sample fits the schema of its message

SAMPLES is a JSON array. Each sample has "body" and, for openapi, "method", "path" (the template), "status" and "type" (of the
content); for asyncapi "message". A member that no schema mentions is an error here, though not to clients: nothing a
node says may be undescribed. Prints every error; exit code 1 if there is one.
"""

import json
import sys

import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator


def main():
    kind, document, samples = sys.argv[1:]
    with open(document, encoding="utf-8") as file:
        document = json.load(file) if kind == "openapi" else yaml.safe_load(file)
    with open(samples, encoding="utf-8") as file:
        samples = json.load(file)
    errors = []
    if kind == "openapi":
        errors += [f"the document: {error.message}" for error in OpenAPIV31SpecValidator(document).iter_errors()]
    components = {name: closed(schema) for name, schema in document["components"]["schemas"].items()}
    for sample in samples:
        where, schema = (response if kind == "openapi" else message)(document, sample)
        if schema is None:
            errors.append(f"{where}: not described")
            continue
        root = {"components": {"schemas": components}, "allOf": [closed(schema)]}
        found = Draft202012Validator(root).iter_errors(sample["body"])
        errors += [f"{where}: {error.json_path}: {error.message}" for error in found]
    print("\n".join(errors) or f"{len(samples)} samples fit")
    sys.exit(1 if errors else 0)


def response(document, sample):
    """The schema that a response has to fit."""
    where = "{method} {path} {status} {type}".format(**sample)
    operation = document["paths"].get(sample["path"], {}).get(sample["method"].lower(), {})
    found = operation.get("responses", {}).get(str(sample["status"]))
    if found and "$ref" in found:
        found = document["components"]["responses"][found["$ref"].rsplit("/", 1)[1]]
    missing = {name.lower() for name in (found or {}).get("headers", {}) if name.startswith("Chorus-")}
    missing -= set(sample["headers"])
    if missing:
        return f"{where}: without {missing}", None
    return where, (found or {}).get("content", {}).get(sample["type"], {}).get("schema")


def message(document, sample):
    """The schema that a frame has to fit."""
    name = sample["message"]
    found = document["channels"]["feed"]["messages"].get(name)
    return name, found and document["components"]["messages"][name]["payload"]


def closed(schema):
    """The schema without room for members that it does not mention, where it mentions any."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {key: closed(part) if key not in ("enum", "const", "default") else part for key, part in schema.items()}
    is_part = "$ref" not in schema and "properties" in schema
    if is_part and not schema.get("additionalProperties") and "allOf" not in schema:
        shut.setdefault("unevaluatedProperties", False)
    return shut


main()
