"""Reads a file of compose as the specification behind version 2 has it, and prints its services.

    specification.py FILE       variables have their defaults
"""

import json
import re
import sys

import yaml
from compose_spec import PyCompose

with open(sys.argv[1], encoding="utf-8") as file:
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", file.read())
read = PyCompose.from_json(json.dumps(yaml.safe_load(text)))
print(*sorted(read.service_names()))
