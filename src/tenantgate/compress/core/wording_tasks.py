"""The words by which a task about wording, layout or number gives itself away, in some twenty languages."""

from __future__ import annotations

import re
from typing import Final

from tenantgate.compress.core.time_budget import Work

__all__ = ["about_wording"]

# Beginnings of words by which a task about wording or layout gives itself away. Too many rather than too few: a text
# that has one of them for another reason is only sent as it came.
_STEMS: Final = (
    tuple(
        # English
        "translat proofread copyedit spelling spelled spellcheck misspel typo grammar grammatic punctuat capitali "
        "uppercas lowercas verbatim literal wording quot cite cites citing citation excerpt exact rhym poem poet "
        "verse stanza lyric haiku limerick sonnet syllab vowel consonant rewrit rephras paraphras reword reformulat "
        "restat proofed shorten alphabet stylist sarcas pronounc pronunciat dialect slang idiom phras sentence "
        "paragraph indent reformat prettif prettyprint beautif minif template schema regex replac substitut delet "
        "insert prepend append copying reproduc transcribe transcribing dictat annotat highlight underlin redact "
        "anonymi anonymis censor extract tokeni unchanged bilingual hesitat stutter disfluen speech talkativ encod "
        "decod cipher encrypt checksum lint debug markdown yaml latex csv xml html role-play roleplay imperson imitat "
        "mimic parody pronoun adverb adjectiv plural abbreviat acronym synonym antonym typograph italic emoji hashtag "
        "rewritten duplicat dedup whitespace linebreak".split()
    )
    + tuple(
        # German, Dutch, Swedish, Danish, Norwegian
        "übersetz korrig korrektur korrekt rechtschreib grammati zitier zitat wörter wörtlich wortlaut buchstab "
        "gedicht strophe zeile zähle anzahl umformul formulier überarbeit verbesser silbe ersetz löschen lösche "
        "entfern wiederhol abschreib kopier absatz einrück formatier schreib fehler vertaal vertal corrigeer woord "
        "citeer hoeveel herschrijf verbeter opmaak översätt orden citera räkna rimma skriv oversæt oversett citer "
        "siter linje".split()
    )
    + tuple(
        # French, Spanish, Portuguese, Italian, Catalan, Romanian
        "tradui traduc traduz tradur traduei corrig correg corrij corrett palabr palavr parole parola cuvânt cuvint "
        "citez citer lettre letra letter poème poesía poesia ligne línea linea linha orthograph ortograf grammair "
        "gramátic grammatic reformul réécri reecri reescr riscriv combien cuánt cuant quant compte cuent phrase frase "
        "récri recopi copier syllab sílab sillab estilo numără scrie rescrie répét repet ripet verso strophe estrofa "
        "remplac reemplaz sostitu supprim elimin erreur error escrib écri escrev scriv".split()
    )
    + tuple(
        # Polish, Czech, Russian, Ukrainian, Bulgarian, Greek, Turkish, Finnish, Hungarian, Indonesian,
        # Vietnamese, Swahili
        "przetłumacz tłumacz popraw słow cytu cytat wiersz przepisz przelož přelož oprav slovo slova cituj písmen "
        "spočítej báseň перевед перевод перекла исправ виправ слов цитир цитат процит букв літер посчита подсчита "
        "сколько скільки рифм стих строк рядк перепиш переформул превед поправ μετάφρα μεταφρά διόρθω λέξ γράμμα "
        "ομοιοκατα ποίημα στίχ çevir tercüme düzelt kelime sözcük alıntı kafiye satır yeniden käännä korjaa lainaa "
        "laske kuinka fordít fordits javít idéz számol terjemah perbaiki koreksi kutip huruf hitung berapa sajak "
        "puisi baris trích đếm tafsiri sahihisha neno hesabu".split()
    )
)
_WORDS: Final = frozenset(
    # English
    "word words letter letters character characters string strings count counts counting counted many often "
    "frequency frequently occurrence occurrences occur occurs longest shortest sort sorted alphabetical reverse "
    "reversed first last third fourth fifth sixth seventh eighth style styles tone correct corrects corrected "
    "corrections fix edit edits edited editing polite politeness rude formal informal formality accent line lines "
    "format formats formatted formatting layout align aligned compare comparison identical original originals "
    "same repeat repeats repeated echo copy mark marks marked label labels uh um er speak speaks speaking spoken "
    "fluent fluency article articles noun nouns verb verbs tense clause clauses joke song rap bold keep preserve "
    "swap swapped remove removed convert converted transform code script json table tables language languages "
    "spell spells rank ranking order ordered sentiment mood emotional emotion sounds sound sounded french german "
    "spanish italian dutch portuguese russian chinese japanese korean arabic hindi polish turkish latin greek "
    "hebrew swedish danish norwegian finnish czech hungarian thai vietnamese indonesian ukrainian romanian "
    "english".split()
) | frozenset(
    # Others
    "wort worte worten reim reime vers verse tel rijm regel regels ord ordet rätta rim dikt rad ret rett tæl tell "
    "stil satz sätze kürze mot mots cita cit rime riga righe frases forme conta cite ton liter polic ile rym slov "
    "rým kolik harf kaç şiir sana sanat runo rivi riimi szó szavak betű hány rím sor kata dịch sửa từ chữ thơ "
    "καταμέτρ".split()
)
_UNSPACED: Final = tuple(
    "翻译 翻譯 译成 譯成 校对 校對 改错 纠正 引用 摘录 原文 逐字 字数 几个字 多少 押韵 诗 詩 改写 改寫 "
    "重写 润色 词 詞 字 行 翻訳 訳 校正 添削 直して 単語 文字 数え いくつ 韻 書き直 言い換え 번역 교정 "
    "고쳐 인용 단어 글자 몇 시를 바꿔 แปล แก้ คำ นับ กลอน अनुवाद सुधार शब्द "
    "अक्षर गिन ترجم صحح كلم حرف اقتبس عدد كم قصيد תרגם תקן מיל "
    "צטט ספור অনুবাদ মொழிபெயர் แต่ง".split()
)
_WORD: Final = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def about_wording(text: str, work: Work) -> bool:
    """Whether some word of `text` may ask for work on wording, layout or numbers of words."""
    low = text.lower()
    if not low.isascii() and any(sign in low for sign in _UNSPACED):
        return True
    words = set(_WORD.findall(low))
    work.step(1 + len(low) // 16 + len(words))
    return not words.isdisjoint(_WORDS) or any(word.startswith(_STEMS) for word in words)
