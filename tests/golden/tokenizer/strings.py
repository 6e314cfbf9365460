"""Texts for comparing tokenizers: deterministic, made from word lists and code points by a seeded generator."""

import random

WORDS = """the of and to in is that it was for on are as with his they at be this from have or by one had not but what
all were when we there can an your which their said if do will each about how up out them then she many some so these
would other into has more her two like him see time could no make than first been its who now people my made over did
down only way find use may water long little very after words called just where most know get through back much before
go good new write our used me man too any day same right look think also around another came come work three word must
because does part even place well such here take why things help put years different away again off went old number
pipeline stage lane token prompt cache matrix attention latency throughput checkpoint scheduler gradient embedding
internationalization misunderstanding counterrevolutionary pneumonoultramicroscopicsilicovolcanoconiosis""".split()
ACCENTED = """naïve façade Übergröße Straße mañana coração élève Łódź čeština žluťoučký İstanbul ığdır Ελλάδα λόγος
Привет мир здравствуйте українська Беларусь српски עברית שלום العربية مرحبا فارسی हिन्दी नमस्ते বাংলা தமிழ் తెలుగు ไทย
สวัสดี ລາວ မြန်မာ ខ្មែរ ქართული հայերեն አማርኛ ᐃᓄᒃᑎᑐᑦ ᏣᎳᎩ 𐌲𐌿𐍄 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ﬁﬂ ǅ ŉ ß ẞ""".split()
CJK = ("今天天气很好我们去公园散步吧人工智能模型推理服务器长文本缓存注意力机制流水线并行计算中华人民共和国"
       "こんにちは世界カタカナひらがな東京都日本語テキスト漢字かな交じり文データベース"
       "한국어텍스트안녕하세요세계데이터모델"
       # The ends of the ranges in the second pattern, and their neighbours.
       "一统中一共鿿龥一龦一䷿中〿中぀ゟ日ゟ゠本ヿ語ㄅ一㐀中龥日")
CJK_MARKS = "，。！？、；：“”‘’（）《》【】…—～·「」『』・ー｜＜＞　"
EMOJI = ["😀", "😂", "🤖", "👍", "👍🏽", "👨‍👩‍👧‍👦", "👩🏿‍🚀", "🏳️‍🌈", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇩🇪", "🇯🇵🇫🇷", "1️⃣", "❤️", "❤", "☎︎", "🫠", "🪿", "🫩", "👁️‍🗨️", "\u200d", "\ufe0f"]
MARKS = [chr(c) for c in list(range(0x300, 0x370)) + [0x483, 0x591, 0x64B, 0x670, 0x93C, 0x94D, 0xE31, 0x1AB0,
                                                      0x20D0, 0x20E3, 0x3099, 0xFE20, 0x11F5A, 0x1E4EC, 0x1E8D0]]
SPACES = " \t\n\r\v\f\u0085\u00a0\u1680\u180e\u2000\u2003\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff\x1c\x1f\x00"
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
MORE_PUNCTUATION = "¡¿«»‹›„“”‘’…—–·•†‡§¶©®™°±×÷€£¥₿←→⇒∀∂∑√∞≈≠≤≥◊★♪␣"
DIGITS = "0123456789" * 3 + "²½Ⅷ①٣४๕௧〇一㊷𝟘𝟡🄌\U0001D2C0\U00011F50"
SPECIAL = """<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜▁pad▁｜> <｜User｜> <｜Assistant｜> <think> </think> ｜DSML｜
<｜fim▁hole｜> <｜tool▁calls▁begin｜> <｜tool▁sep｜> <|EOT|> <｜place▁holder▁no▁1｜> <｜place▁holder▁no▁12｜> <dsml:
</dsml: <｜end_of_query｜> <｜image｜> <note> <notebook> </note>""".split()
NAMES = "x i n count value rows self result index buffer kMaxRows totalBytes _private __init__ HTTPServer camelCase".split()

# Blocks that Unicode 15, 15.1 and 16 added to, so that the age of a character table shows.
RECENT = [(0x1C89, 0x1C8A), (0xA7CB, 0xA7DC), (0x105C0, 0x105F3), (0x10D40, 0x10D8F), (0x11380, 0x113E2),
          (0x11BC0, 0x11BF9), (0x11F00, 0x11F5A), (0x13440, 0x143FA), (0x16100, 0x16139), (0x16D40, 0x16D79),
          (0x1CC00, 0x1CEB3), (0x1D2C0, 0x1D2D3), (0x1E030, 0x1E08F), (0x1E4D0, 0x1E4F9), (0x1E5D0, 0x1E5FF),
          (0x1FA75, 0x1FAF8), (0x2EBF0, 0x2EE5D), (0x31350, 0x323AF), (0x2427, 0x2429), (0x31E4, 0x31EF)]


def words(r, low, high):
    out = []
    for _ in range(r.randint(low, high)):
        word = r.choice(ACCENTED) if r.random() < 0.08 else r.choice(WORDS)
        roll = r.random()
        out.append(word.capitalize() if roll < 0.15 else word.upper() if roll < 0.2 else word)
    return out


def prose(r):
    out = []
    for _ in range(r.randint(1, 3)):
        out.append(" ".join(words(r, 3, 10)) + r.choice([".", "!", "?", "...", ",", ";", ":", "'s", "'ll.", " - ", "—"]))
    return r.choice([" ", "  ", "\n", "\n\n", "\r\n"]).join(out)


def code(r):
    a, b, c = (r.choice(NAMES) for _ in range(3))
    n = r.choice([0, 1, 7, 42, 1000, 65536, 3.14159, -1, 0xFF])
    indent = r.choice(["", "  ", "    ", "\t", "\t\t", "            "])
    lines = r.choice([
        [f"for (int {a} = 0; {a} < {n}; ++{a}) {{", f"  {b}[{a}] += {c}->{a}(*{b});", "}"],
        [f"def {a}({b}, *{c}, **kw):", f"    return {{k: v ** {n} for k, v in {b}.items() if v != {n}}}"],
        [f"#include <{a}.h>", f"template <typename T> auto {b}(T&& {c}) -> decltype({c} + {n}) {{ return {c}<<{n}; }}"],
        [f'{{"{a}": {n}, "{b}": ["{c}", null, true], "nested": {{"{c}": {n}e-3}}}}'],
        [f"SELECT {a}, COUNT(*) FROM `{b}` WHERE {c} LIKE '%{n}%' -- comment"],
        [f"<div class=\"{a}\" id='{b}'>{c}&nbsp;</div><!-- {n} -->"],
        [f"$ {a} --{b}={n} | grep -E '^[{c}]+$' > /tmp/{a}.log 2>&1"],
        [f"\\frac{{{a}}}{{{b}^{n}}} \\leq \\sum_{{i=0}}^{{\\infty}} {c}_i"],
    ])
    return (r.choice(["\n", "\r\n"]) + indent).join([indent + lines[0]] + lines[1:]) + r.choice(["", "\n", "\n\n"])


def cjk(r):
    out = []
    for _ in range(r.randint(1, 6)):
        start = r.randrange(len(CJK) - 12)
        out.append(CJK[start:start + r.randint(1, 12)])
        out.append(r.choice(["", "", " ", r.choice(CJK_MARKS), r.choice(CJK_MARKS), str(r.randrange(10000)), r.choice(WORDS)]))
    return "".join(out)


def emoji(r):
    return "".join(r.choice([r.choice(EMOJI), r.choice(EMOJI), " ", r.choice(WORDS)]) for _ in range(r.randint(1, 10)))


def combining(r):
    out = []
    for _ in range(r.randint(1, 10)):
        base = r.choice(["a", "e", "o", "Z", "ก", "か", "一", " ", "1", ".", "\n", "é", "ك", ""])
        out.append(base + "".join(r.choice(MARKS) for _ in range(r.choice([0, 1, 1, 2, 5]))))
    return "".join(out)


def whitespace(r):
    out = []
    for _ in range(r.randint(1, 6)):
        out.append(r.choice([" ", " ", "\n", "\t", "\r\n", r.choice(SPACES)]) * r.choice([1, 1, 2, 3, 7, 16, 40]))
        out.append(r.choice(["", "x", "Word", "1", ".", "中", r.choice(WORDS), r.choice(SPACES)]))
    return "".join(out)


def digits(r):
    return r.choice(["", " ", ".", ",", "-", ":", "e+"]).join(
        "".join(r.choice(DIGITS) for _ in range(r.choice([1, 2, 3, 4, 6, 9, 17]))) for _ in range(r.randint(1, 6)))


def special(r):
    out = []
    for _ in range(r.randint(1, 6)):
        token = r.choice(SPECIAL)
        roll = r.random()
        if roll < 0.15:
            token = token[:r.randrange(1, len(token))]
        elif roll < 0.25:
            token = token[r.randrange(len(token)):]
        elif roll < 0.3:
            token = token.replace("｜", "|").replace("▁", "_")
        out.append(token + r.choice(["", "", " ", "\n", r.choice(WORDS), "  " + r.choice(WORDS), "<", "｜"]))
    return "".join(out)


def storm(r):
    alphabet = r.choice([PUNCTUATION, PUNCTUATION + " ", PUNCTUATION + MORE_PUNCTUATION, PUNCTUATION + "\n aB1"])
    if r.random() < 0.2:
        return r.choice(alphabet) * r.randint(1, 60)
    return "".join(r.choice(alphabet) for _ in range(r.randint(1, 40)))


def code_point(r, low, high):
    c = r.randint(low, high)
    return "?" if 0xD800 <= c < 0xE000 else chr(c)


def unicode(r):
    ranges = r.choice([[(0, 0x10FFFF)], [(0, 0x7F)], [(0x80, 0x7FF)], [(0x800, 0xFFFF)], [(0x10000, 0x1FFFF)],
                       [(0x20000, 0x3FFFF)], [(0xE0000, 0xE01FF)], RECENT, RECENT,
                       [(0, 0x7F), (0x80, 0x7FF), (0x800, 0xFFFF), (0x10000, 0x323AF)]])
    return "".join(code_point(r, *r.choice(ranges)) for _ in range(r.randint(1, 20)))


def mixture(r):
    return "".join(r.choice(TEXTS)(r)[:40] for _ in range(r.randint(2, 4)))


def long_word(r):
    return r.choice([lambda: "".join(r.choice(WORDS) for _ in range(r.randint(8, 40))),
                     lambda: r.choice("aA=~-中あ ") * r.randint(30, 300),
                     lambda: "ab" * r.randint(20, 120),
                     lambda: "".join(r.choice("abcdefghijklmnop") for _ in range(r.randint(40, 200)))])()


def invalid(r):
    data = bytearray(r.choice(TEXTS)(r)[:60].encode())
    for _ in range(r.randint(1, 5)):
        at = r.randint(0, len(data))
        roll = r.random()
        if roll < 0.4:
            data[at:at] = bytes(r.choice([0x80, 0xBF, 0xC0, 0xC1, 0xC3, 0xE0, 0xE2, 0xED, 0xF0, 0xF4, 0xF5, 0xFF, r.randrange(256)])
                                for _ in range(r.randint(1, 4)))
        elif roll < 0.6:
            data[at:at] = r.choice([b"\xed\xa0\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xc0\xaf",
                                    b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x88\x80\x80\x80"])
        elif roll < 0.8:
            del data[at:at + 1]
        else:
            del data[at:]
    return bytes(data)


TEXTS = [prose, code, cjk, emoji, combining, whitespace, digits, special, storm, unicode]


def generate(seed, count):
    """`count` byte strings; most are UTF-8, one in twelve or so is not."""
    r = random.Random(seed)
    makers = TEXTS + [mixture, mixture, invalid, long_word]
    out = [b"", b" ", b"\n", b"a", b"\x00", b"\xff", "\ufffd".encode()]
    while len(out) < count:
        made = makers[len(out) % len(makers)](r)
        out.append(made if isinstance(made, bytes) else made.encode())
    return out[:count]
