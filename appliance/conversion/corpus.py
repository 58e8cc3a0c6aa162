"""The built-in texts of the parity gate: questions for greedy decoding and strings for the tokenizer.

Both are fixed: the same version of the appliance compares the same texts. The strings aim at what differs between
tokenizers: white space, digits, contractions, scripts, combining marks, emoji, control characters, broken markup.
"""

from __future__ import annotations

from collections.abc import Iterable

QUESTIONS = (
    "Hello, who are you?",
    "What is the capital of France?",
    "Summarise in one sentence why backups are tested.",
    "Write a Python function that adds two numbers.",
    "List three primary colours, separated by commas.",
    "Wie lautet die Adresse des Servers?",
    "1 + 1 =",
    "Why?",
)

TEXTS = (
    "The quick brown fox",
    "def main(argv):\n    return",
    "In 2024, the",
    "Sehr geehrte Damen und Herren,",
)
"""Beginnings of plain text, decoded without a chat template."""

_FRAGMENTS = (
    *(
        "a",
        "A",
        "I",
        "the",
        "The quick brown fox",
        "jumps over",
        "don't",
        "I've",
        "we'll",
        "HE'S",
        "'tis",
        "o'clock's",
    ),
    *("hello world", "Hello, World!", "CamelCaseIdentifier", "snake_case_name", "kebab-case", "e-mail@example.org"),
    *("https://example.org/a?b=c&d=%20#e", "/usr/local/bin", "C:\\Windows\\System32", "2001:db8::1", "192.0.2.17"),
    *(
        "0",
        "7",
        "42",
        "123",
        "1234",
        "12345678901234567890",
        "3.14159",
        "1,000,000.00",
        "1e-9",
        "0x7fFF",
        "2024-02-29",
    ),
    *(
        "!",
        "?!",
        "...",
        "…",
        "--",
        "—",
        "“quoted”",
        "«guillemets»",
        "(a)",
        "[b]",
        "{c}",
        "a;b:c",
        "#tag",
        "$9.99",
        "50%",
    ),
    *(
        " ",
        "  ",
        "   ",
        "\t",
        "\t\t",
        "\n",
        "\n\n",
        "\n\n\n",
        "\r\n",
        " \n ",
        "\n \n",
        "    four",
        "trailing  ",
        "a \t b",
    ),
    *("a\u00a0b", "a\u2003b", "a\u3000b", "a\u200bb", "a\u2028b", "soft\u00adhyphen", "\u00a0", "\u3000\u3000x"),
    *(
        "def f(x):\n    return x ** 2\n",
        "if (a && b) { c(); }",
        "SELECT * FROM t WHERE id = 'x';",
        '<a href="#">x</a>',
    ),
    *(
        '{"key": [1, 2.5, null, true]}',
        "```python\nprint('x')\n```",
        "# heading\n\n- item\n- item",
        "a = b != c <= d >> 2",
    ),
    *("Größe", "naïve café", "Straße", "smörgåsbord", "Łódź", "İstanbul", "ﬁnance", "e\u0301", "n\u0303", "A\u030a"),
    *(
        "Привет, мир",
        "Γειά σου Κόσμε",
        "שלום עולם",
        "مرحبا بالعالم",
        "नमस्ते दुनिया",
        "สวัสดีชาวโลก",
        "你好，世界",
        "こんにちは世界",
    ),
    *("안녕하세요", "கணினி", "ქართული", "Հայերեն", "አማርኛ", "ᓄᓇᕗᑦ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𐍈", "①②③", "½ ¾ ²", "٣٤٥", "Ⅷ"),
    *("🙂", "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "👍🏽", "☃️", "🦙🦙", "✅ done", "a🙂b", "😶‍🌫️", "♠♥♦♣", "→←↑↓", "∑∫√∞≠≤"),
    *(
        "<|user|>",
        "<|assistant|>",
        "<|end|>",
        "<|end|",
        "< |end|>",
        "<|END|>",
        "<|im_start|>",
        "<|endoftext|>",
        "[INST]",
    ),
    *("<s>", "</s>", "<pad>", "<unk>", "<<SYS>>", "[PAD12]", "<|", "|>", "<0x0A>", "\\n", "\\u0041", "&lt;|end|&gt;"),
    *("\x00", "a\x00b", "\x07", "\x1b[31mred\x1b[0m", "\x7f", "\x0b", "\x0c", "\ufeffbom", "\ufffd", "\ue000"),
    *("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ababababababababab", "=" * 40, "-" * 17, "!!!!!!!!", "        indented"),
    "",
)

_SEPARATORS = ("", " ", "\n", "  ", "\t", ", ", "'", "-")
_COMBINATIONS = 440


def strings(special_tokens: Iterable[str] = ()) -> tuple[str, ...]:
    """Return more than 500 distinct strings, among them the given special tokens in awkward places."""
    count = len(_FRAGMENTS)
    pairs = (
        _FRAGMENTS[i % count] + _SEPARATORS[i % len(_SEPARATORS)] + _FRAGMENTS[(7 * i + 3) % count]
        for i in range(_COMBINATIONS)
    )
    around = (
        text
        for token in special_tokens
        for text in (token, f"a{token}b", f" {token} ", f"\n{token}\n", token + token, token[:-1], f"{token}'s 1 2")
    )
    return tuple(dict.fromkeys((*_FRAGMENTS, *pairs, *QUESTIONS, *TEXTS, *around)))
