from .programs import PROGRAMS
def test_a(): assert PROGRAMS
