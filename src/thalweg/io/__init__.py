"""Files: atomic writing, progress logs, hashes, and strict reading."""
