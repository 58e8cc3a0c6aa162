from __future__ import annotations

import stat
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.block_store import BLOCK, BlockFolder, BlockStore

TOKENS = list(range(3 * BLOCK + 5))


def test_keys_are_of_whole_blocks_and_depend_on_everything_before() -> None:
    store = BlockStore(memory=0)
    keys = list(store.keys("a", TOKENS))
    assert len(keys) == 3
    assert keys[:2] == list(store.keys("a", TOKENS[: 2 * BLOCK]))
    changed = list(store.keys("a", [9, *TOKENS[1:]]))
    assert not set(keys) & set(changed)


@settings(deadline=None)
@given(st.text(), st.text())
def test_spaces_never_name_the_same_block(one: str, other: str) -> None:
    store = BlockStore(memory=0)
    assert (set(store.keys(one, TOKENS)) == set(store.keys(other, TOKENS))) == (one == other)


def test_another_process_names_blocks_otherwise() -> None:
    assert list(BlockStore(memory=0).keys("a", TOKENS)) != list(BlockStore(memory=0).keys("a", TOKENS))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50), st.booleans())), st.integers(0, 120), st.integers(0, 120)
)
def test_memory_and_disk_stay_within_their_bounds(blocks: list[tuple[int, int, bool]], memory: int, size: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        disk = BlockFolder(Path(name) / "cache", size=size)
        store = BlockStore(memory=memory, disk=disk)
        latest: dict[bytes, bytes] = {}
        for number, length, proven in blocks:
            key, block = bytes([number]) * 4, bytes([number]) * length
            store.put(key, block, proven=proven)
            store.touch([bytes([number // 2]) * 4], proven=proven)
            latest[key] = block
            assert store.held <= memory
            assert disk.held <= size
            assert disk.held == sum(path.stat().st_size for path in Path(name, "cache").iterdir())
        for key, block in latest.items():
            assert store.get(key) in (None, block)
        store.close()
        assert list(Path(name, "cache").iterdir()) == []


def test_least_recently_used_goes_from_memory_to_disk_to_nowhere(tmp_path: Path) -> None:
    disk = BlockFolder(tmp_path / "cache", size=10)
    store = BlockStore(memory=20, disk=disk)
    for name in (b"a", b"b"):
        store.put(name, name * 10, proven=False)
    assert store.touch([b"a"], proven=False)
    store.put(b"c", b"c" * 10, proven=False)
    assert (store.get(b"b"), disk.held) == (b"b" * 10, 10)
    store.put(b"d", b"d" * 10, proven=False)
    assert (store.get(b"b"), store.get(b"a"), disk.held) == (None, b"a" * 10, 10)


def test_what_a_second_prompt_found_stays_up_to_its_share() -> None:
    store = BlockStore(memory=40)
    assert store.keeps == 0
    store.put(b"a", b"a" * 10, proven=True)
    assert store.keeps == 2 * BLOCK
    for name in (b"b", b"c", b"d", b"e", b"f"):
        store.put(name, name * 10, proven=False)
    assert [store.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [True, False, False, True]
    assert store.touch([b"d", b"e"], proven=True)
    store.put(b"g", b"g" * 10, proven=False)
    assert [store.get(name) is not None for name in (b"a", b"d", b"e", b"f", b"g")] == [False, True, True, True, True]


def test_files_are_private_and_a_changed_one_is_no_block(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    disk = BlockFolder(folder, size=100)
    disk.put(b"k", b"block")
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    file.write_bytes(b"black")
    assert disk.get(b"k") is None
    assert (disk.held, disk.lost, list(folder.iterdir())) == (0, 1, [])


def test_blocks_of_an_earlier_process_are_removed(tmp_path: Path) -> None:
    BlockFolder(tmp_path, size=100).put(b"k", b"block")
    (tmp_path / "note.txt").write_text("not ours")
    assert BlockFolder(tmp_path, size=100).get(b"k") is None
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_folder_that_takes_nothing_costs_blocks_only(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    disk = BlockFolder(folder, size=100)
    folder.rmdir()
    disk.put(b"k", b"block")
    assert (disk.get(b"k"), disk.held, disk.lost) == (None, 0, 1)
