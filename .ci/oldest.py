"""The lower bounds of a wheel's own requirements as pip's constraints: python .ci/oldest.py lnauto-*.whl > oldest.txt"""

import email
import re
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    [name] = [each for each in wheel.namelist() if each.endswith(".dist-info/METADATA")]
    requirements = email.message_from_bytes(wheel.read(name)).get_all("Requires-Dist") or []
for requirement in requirements:
    if "extra ==" not in requirement:
        package, bound = re.match(r"([A-Za-z0-9_.-]+).*?>=([0-9.]+)", requirement).groups()
        print(f"{package}=={bound}.*" if bound.count(".") < 2 else f"{package}=={bound}")
