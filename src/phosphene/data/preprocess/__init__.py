"""From measured signals to trials worth decoding; every fitted step remembers what it saw."""
