"""Sealing: a record of what was proved, and whether the files in a folder still are that.

A seal is a record of checksums, not a signature: it finds what was changed, and not who has written it. Whoever can
write to the folder can write another seal.
"""

from deploykit.sealing.making import seal
from deploykit.sealing.manifest import Seal, SealedFile
from deploykit.sealing.verifying import Found, Verification, verify

__all__ = ["Found", "Seal", "SealedFile", "Verification", "seal", "verify"]
