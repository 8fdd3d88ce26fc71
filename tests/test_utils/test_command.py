"""How scripts end that fail."""

import subprocess
import sys

import pytest

SCRIPT = """
from mmengine.registry import MODELS
from mmwood.utils.check import one_of
from mmwood.utils.command import run
from mmwood.utils.require import require

@MODELS.register_module()
class Broken:
    def __init__(self):
        one_of("void", "c", ("a", "b"))

def main():
    BODY

run(main)
"""


def end(tmp_path, body):
    """Exit status and standard error of a script whose main function is that."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("BODY", body))
    result = subprocess.run([sys.executable, script], capture_output=True, text=True)
    return result.returncode, result.stderr


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('the list is empty')", "the list is empty"),
        ("one_of('void', 'c', ('a', 'b'))", "void must be 'a' or 'b', but is 'c'"),
        ("MODELS.build(dict(type='Broken'))", "void must be 'a' or 'b', but is 'c'"),
        (
            "open('/no/such/file')",
            "[Errno 2] No such file or directory: '/no/such/file'",
        ),
        (
            "require('no_such_package', 'crf', 'the dense CRF')",
            "the dense CRF needs no_such_package (No module named 'no_such_package'): "
            'run `pip install "mmwood[crf]"`.',
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line(tmp_path, body, message):
    assert end(tmp_path, body) == (1, f"{message}\n")


@pytest.mark.parametrize("body", ["import json; json.loads('{')", "{}['key']"])
def test_a_fault_of_the_program_keeps_its_traceback(tmp_path, body):
    code, err = end(tmp_path, body)
    assert code == 1
    assert err.startswith("Traceback")
