"""The second tier of the prefix cache: saved KV cells in memory, then on disk, both bounded.

Owns bytes under keys and knows no model. A block holds the cells of `BLOCK` consecutive tokens, and its key is a keyed
hash of everything these cells depend on: the space (who may share) and every token from the first on. So a block is
found by exactly those prompts for which it is right, and two spaces never name the same block. The secret of the hash
lives as long as the process, which serves one model: files of another process mean nothing and are removed.
Invariants: a block read from disk is the one that was written, or it is no block; a full disk costs cache, no request.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as TokenIds
from pathlib import Path
from typing import Final

BLOCK: Final = 64
"""Tokens a block. A rest that is shorter is computed again."""

Block = bytes | memoryview
"""The content of the cells of one block."""

PROVEN_SHARE: Final = 0.5
"""Of the memory: so much of what a second prompt found stays, however much comes that nobody asked for again."""

_SUFFIX: Final = ".kv"


class BlockStore:
    """Blocks by key, least recently used ones first out: from memory to disk, from disk to nowhere.

    In memory *proven* blocks, which a second prompt found, leave last while they hold `PROVEN_SHARE` of it at most.
    """

    def __init__(self, *, memory: int, disk: BlockFolder | None = None) -> None:
        """`memory` bounds the bytes held in memory."""
        self._bound = memory
        self._disk = disk
        self._secret = secrets.token_bytes(32)
        self._private: OrderedDict[bytes, Block] = OrderedDict()
        self._proven: OrderedDict[bytes, Block] = OrderedDict()
        self._proven_bytes = 0
        self._largest = 0
        self.held = 0

    @property
    def keeps(self) -> int:
        """How many proven tokens stay in memory for sure, by the largest block so far; none before the first."""
        return int(PROVEN_SHARE * self._bound) // self._largest * BLOCK if self._largest else 0

    @property
    def held_on_disk(self) -> int:
        """Bytes on disk."""
        return self._disk.held if self._disk else 0

    @property
    def lost(self) -> int:
        """Blocks that the disk did not take, or gave back changed."""
        return self._disk.lost if self._disk else 0

    def keys(self, space: str, tokens: TokenIds[int]) -> Iterator[bytes]:
        """The keys of the whole blocks of `tokens`, in order."""
        key = hashlib.blake2b(space.encode(), key=self._secret, digest_size=32).digest()
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            content = array.array("i", tokens[start : start + BLOCK]).tobytes()
            key = hashlib.blake2b(key + content, key=self._secret, digest_size=32).digest()
            yield key

    def get(self, key: bytes) -> Block | None:
        """A block, or None."""
        block = self._private.get(key, self._proven.get(key))
        return self._disk.get(key) if block is None and self._disk else block

    def touch(self, keys: Iterable[bytes], *, proven: bool) -> bool:
        """Make blocks the most recently used ones, in this order, and `proven` if so; whether all are here."""
        found = True
        for key in keys:
            if key in self._proven:
                self._proven.move_to_end(key)
            elif key not in self._private:
                found = self._disk is not None and self._disk.touch(key) and found
            elif proven:
                self._hold(key, self._take_out(key), proven=True)
            else:
                self._private.move_to_end(key)
        return found

    def put(self, key: bytes, block: Block, *, proven: bool) -> None:
        """Keep a block as the most recently used one."""
        self.discard(key)
        self._hold(key, block, proven=proven)
        self._largest = max(self._largest, len(block))
        while self.held > self._bound:
            crowded = self._proven_bytes > PROVEN_SHARE * self._bound or not self._private
            oldest = next(iter(self._proven if crowded else self._private))
            content = self._take_out(oldest)
            if self._disk is not None:
                self._disk.put(oldest, content)

    def discard(self, key: bytes) -> None:
        """Forget a block, if it is there."""
        self._take_out(key)
        if self._disk is not None:
            self._disk.discard(key)

    def close(self) -> None:
        """Remove what lies on disk."""
        if self._disk is not None:
            self._disk.close()

    def _hold(self, key: bytes, block: Block, *, proven: bool) -> None:
        (self._proven if proven else self._private)[key] = block
        self.held += len(block)
        self._proven_bytes += len(block) if proven else 0

    def _take_out(self, key: bytes) -> Block:
        """Take a block out of memory; empty when it is not there."""
        if key in self._proven:
            block = self._proven.pop(key)
            self._proven_bytes -= len(block)
        else:
            block = self._private.pop(key, b"")
        self.held -= len(block)
        return block


class BlockFolder:
    """A folder of blocks, one private file each. Nothing is flushed: it is a cache of this process."""

    def __init__(self, folder: Path, *, size: int) -> None:
        """Use `folder`, made if need be, for at most `size` bytes; blocks of earlier processes go. Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for stale in folder.glob(f"*{_SUFFIX}"):
            stale.unlink()
        self._folder = folder
        self._bound = size
        self._files: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()  # key -> size, digest
        self.held = 0
        self.lost = 0

    def get(self, key: bytes) -> bytes | None:
        """A block whose bytes are those that were written, or None."""
        if key not in self._files:
            return None
        try:
            block = self._path(key).read_bytes()
        except OSError:
            block = b""
        if _digest(block) == self._files[key][1]:
            return block
        self.lost += 1
        self.discard(key)
        return None

    def touch(self, key: bytes) -> bool:
        """Make a block the most recently used one; whether it is here."""
        if key not in self._files:
            return False
        self._files.move_to_end(key)
        return True

    def put(self, key: bytes, block: Block) -> None:
        """Write a block, after making room; a disk that takes no more costs this block."""
        if len(block) > self._bound:
            return
        while self.held + len(block) > self._bound:
            self.discard(next(iter(self._files)))
        self._files[key] = (len(block), _digest(block))
        self.held += len(block)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(self._path(key), flags, 0o600), "wb") as stream:
                stream.write(block)
        except OSError:
            self.lost += 1
            self.discard(key)

    def discard(self, key: bytes) -> None:
        """Remove a block, if it is there."""
        size, _ = self._files.pop(key, (0, b""))
        self.held -= size
        if size:
            with contextlib.suppress(OSError):
                self._path(key).unlink()

    def close(self) -> None:
        """Remove all blocks."""
        for key in list(self._files):
            self.discard(key)

    def _path(self, key: bytes) -> Path:
        return self._folder / f"{key.hex()}{_SUFFIX}"


def _digest(block: Block) -> bytes:
    return hashlib.blake2b(block, digest_size=16).digest()
