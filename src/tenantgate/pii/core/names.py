"""Names of persons, places and organisations: what the wording tells, and what models found, put together.

Models label words; this joins the words of one name or address, drops what can be none, and adds what a model
of the language needs not know: countries and their people, titles, legal forms, and the parts of an address.
All expressions are possessive or bounded, so the time is linear in the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from tenantgate.pii.core.finding import Finding, lower_in_place, outermost

__all__ = ["find_names"]

_SURE: Final = 0.95
_MODEL: Final = 0.9  # the most that a model's word counts: what the wording tells is surer

_COUNTRIES: Final = (
    "afghanistan|albania|algeria|andorra|angola|argentina|armenia|australia|austria|azerbaijan|bahamas|bahrain|"
    "bangladesh|barbados|belarus|belgium|belize|benin|bhutan|bolivia|bosnia|botswana|brazil|brunei|bulgaria|"
    "burkina faso|burundi|cambodia|cameroon|canada|cape verde|central african republic|chile|china|colombia|comoros|"
    "congo|costa rica|croatia|cuba|cyprus|czech republic|czechia|denmark|djibouti|dominica|dominican republic|ecuador|"
    "egypt|el salvador|england|eritrea|estonia|eswatini|ethiopia|fiji|finland|france|gabon|gambia|germany|ghana|greece|"
    "greenland|grenada|guatemala|guyana|haiti|honduras|hong kong|hungary|iceland|india|indonesia|iran|iraq|ireland|"
    "israel|italy|ivory coast|jamaica|japan|kazakhstan|kenya|kiribati|kosovo|kuwait|kyrgyzstan|laos|latvia|lebanon|"
    "lesotho|liberia|libya|liechtenstein|lithuania|luxembourg|macau|madagascar|malawi|malaysia|maldives|malta|"
    "mauritania|mauritius|mexico|micronesia|moldova|monaco|mongolia|montenegro|morocco|mozambique|myanmar|namibia|nauru|"
    "nepal|netherlands|new zealand|nicaragua|nigeria|north korea|north macedonia|northern ireland|norway|oman|pakistan|"
    "palau|palestine|panama|papua new guinea|paraguay|peru|philippines|poland|portugal|puerto rico|qatar|romania|russia|"
    "rwanda|samoa|san marino|saudi arabia|scotland|senegal|serbia|seychelles|sierra leone|singapore|slovakia|slovenia|"
    "somalia|south africa|south korea|south sudan|spain|sri lanka|sudan|suriname|sweden|switzerland|syria|taiwan|"
    "tajikistan|tanzania|thailand|togo|tonga|trinidad and tobago|tunisia|turkmenistan|tuvalu|uganda|ukraine|"
    "united arab emirates|united kingdom|united states(?: of america)?|uruguay|uzbekistan|vanuatu|vatican city|venezuela|"
    "vietnam|wales|yemen|zambia|zimbabwe"
)
# Without those that are mostly languages, food or ordinary words ("polish", "danish", "swiss" of chalets).
_PEOPLES: Final = (
    "afghan|albanian|algerian|american|andorran|angolan|argentin(?:e|ian)|armenian|australian|austrian|azerbaijani|"
    "bahraini|bangladeshi|belarusian|belgian|bolivian|bosnian|brazilian|british|bruneian|bulgarian|burmese|burundian|"
    "cambodian|cameroonian|canadian|chilean|chinese|colombian|congolese|croatian|cuban|cypriot|czech|dane|danish|dominican|"
    "dutch|ecuadorian|egyptian|english|eritrean|estonian|ethiopian|fijian|filipino|finnish|french|gabonese|georgian|german|"
    "ghanaian|greek|greenlandic|greenlander|guatemalan|guyanese|haitian|honduran|hungarian|icelandic|icelander|indian|"
    "indonesian|iranian|iraqi|irish|israeli|italian|jamaican|japanese|jordanian|kazakh|kenyan|korean|kurdish|kuwaiti|"
    "laotian|latvian|lebanese|liberian|libyan|lithuanian|luxembourger|macedonian|malagasy|malawian|malaysian|maltese|"
    "mauritanian|mauritian|mexican|moldovan|mongolian|montenegrin|moroccan|mozambican|namibian|nepalese|nicaraguan|"
    "nigerian|norwegian|omani|pakistani|palestinian|panamanian|paraguayan|peruvian|polish|portuguese|qatari|romanian|"
    "russian|rwandan|samoan|saudi|scottish|senegalese|serbian|singaporean|slovak|slovenian|somali|south african|spanish|"
    "sudanese|surinamese|swedish|swede|swiss|syrian|taiwanese|tajik|tanzanian|thai|togolese|tunisian|turkish|turkmen|ugandan|"
    "ukrainian|uruguayan|uzbek|venezuelan|vietnamese|welsh|yemeni|zambian|zimbabwean|"
    "african|asian|european|arab|latino|latina|hispanic|jew|jewish|muslim|christian|catholic|protestant|hindu|buddhist|sikh|"
    "sunni|shiite|shia|mormon|orthodox christian"
)
_COUNTRY: Final = re.compile(rf"(?<![\w@.-])(?:{_COUNTRIES})(?![\w@])")
_PEOPLE: Final = re.compile(
    rf"(?<![\w@.-])(?<!study )(?<!studying )(?<!speak )(?<!speaking )(?<!learn )(?<!learning )(?<! in )(?<! into )(?<! from )(?<! to )"
    rf"(?:{_PEOPLES})s?(?![\w@]| language| union| teacher| lesson| class| version| translation)"
)

_PLAIN: Final = r"[^\W\d_]"
_CAP: Final = r"[A-ZÀ-ÖØ-ÞĀ-Ž]"  # near enough; each is tested again where it matters
_NO_PART: Final = (
    r"(?!(?:Apt|Apartment|Suite|Ste|Unit|Box|Flat|Room|Floor|Street|Road|Avenue|Mobile|Phone|Email|Fax)\b)"
)
_NAME: Final = rf"{_NO_PART}{_CAP}{_PLAIN}{{1,30}}+(?:['’-]{_PLAIN}{{1,30}}+){{0,3}}+"
_INITIAL: Final = rf"{_CAP}\.?(?=\s)"
_FULL: Final = rf"{_NAME}(?: (?:{_INITIAL} ?)?(?:(?:de|del|der|di|da|van|von|la|le|al|bin|el|of) ){{0,2}}+{_NAME}){{0,3}}"
_PERSON_CUES: Final = (
    re.compile(
        rf"(?<![\w&])(?:Mr|Mrs|Ms|Mx|Dr|Prof|Sir|Herr|Frau|Mme|Monsieur|Madame|Señora?|Sra?)\b\.? ({_FULL})"
    ),
    re.compile(
        rf"(?i:(?<!\w)(?:my (?:full |first |last )?name is|my name's|calls? me|called me|call her|call him)) ({_FULL})"
    ),
    re.compile(
        rf"(?i:(?<!\w)(?:name|contact|patient|customer|guardian|sincerely|regards|dear))[:,]?\s{{1,3}}({_FULL})"
    ),
)
_LEGAL: Final = re.compile(
    rf"(?<!\w){_CAP}[\w&'’.-]{{0,30}}+,? (?:(?:{_CAP}[\w&'’.-]{{0,30}}+|&|and|of),? ){{0,4}}"
    r"(?:(?:Inc|Ltd|Corp)\b\.?|(?:Incorporated|LLC|LLP|Limited|GmbH|AG|PLC|Plc|Corporation|Company|Holdings|Group|Partners|"
    r"Bank|University|College|Institute|Foundation|Association|Orchestra|Ministry|Hospital|Club|Agency)\b)"
)
_AT_WORK: Final = re.compile(
    r"(?i:(?<!\w)(?:works? (?:for|at)|worked (?:for|at)|working (?:for|at)|employed (?:by|at)|ceo of|cto of|cfo of|founder of|"
    r"employees? (?:of|at)|intern(?:ship)? at|the company|resigned from))"
    rf" ({_CAP}[\w&'’-]{{1,30}}+(?: {_CAP}[\w&'’-]{{1,30}}+){{0,3}})"
)
_COMPANY_IS: Final = re.compile(
    rf"(?<![\w'’]) ?({_CAP}[\w&'’-]{{1,30}}+(?: {_CAP}[\w&'’-]{{1,30}}+){{0,3}})"
    r"(?= is (?:a|an|the) (?:\w{1,20} ){0,2}(?:company|agency|startup|start-up|firm|bank|retailer|manufacturer|supplier|vendor|"
    r"nonprofit|non-profit|charity|corporation|provider)\b)"
)
_UNIT: Final = r"(?:apt|apartment|suite|p\.? ?o\.? box|postfach)\b\.? ?#? ?[0-9]{1,6}[a-z]?(?!\w)"
_STREETS: Final = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd|Place|Pl|Square|Sq|Terrace|Crescent|Close|Way|"
    r"Highway|Hwy|Parkway|Pkwy|Circle|Alley|Row|Grove|Gardens|Walk|Hill|Mews|Wharf|Trail|Loop|Plaza)"
)
_RUE: Final = (
    r"(?:Rue|Avenue|Via|Viale|Piazza|Calle|Avda|Avenida|Rua|Ul|Ulica|Plaza|Chemin|Allée|Corso|Carrer|Travessa|Largo|"
    r"rue|calle|avda|avenida|rua|ul|ulica|chemin|C/)"
)
_WORD: Final = rf"{_PLAIN}[\w'’.-]{{1,30}}"
_NAMED: Final = rf"{_CAP}[\w'’.-]{{0,30}}"
_NUMBERS: Final = r"(?:[0-9]{1,6},? ){0,2}"
# On the text as it is; the names of streets have capitals.
_ADDRESS: Final = (
    re.compile(
        rf"(?<![\w.,])[0-9]{{1,6}}[a-zA-Z]? (?:[0-9]{{1,5}} )?(?:[NSEW]\.? )?(?:{_NAMED} ){{1,4}}?{_STREETS}\b"
    ),
    re.compile(
        rf"(?<!\w){_NUMBERS}{_RUE}\.? (?:(?:de|des|du|la|le|les|los|el|da|do|dos|degli|della|De|La|l['’])\s?){{0,3}}"
        rf"{_NAMED}(?: {_WORD}){{0,3}}? [0-9]{{1,5}}[a-zA-Z]?(?!\w)"
    ),
    re.compile(rf"(?<!\w)the corner of [^.,\n]{{3,60}}? and {_NAMED}(?: {_NAMED}){{0,2}}"),
    re.compile(rf"(?<!\w)(?:USS|USNS|USNV|USCGC) {_PLAIN}{{2,30}}+(?=[\s,]{{1,4}}FPO )"),
)
# On the text in lower case: what is an address in any case.
_ADDRESS_LOWER: Final = (
    re.compile(rf"(?<!\w){_UNIT}"),
    re.compile(r"(?<!\w)(?:psc|cmr|unit) [0-9]{1,5},? box [0-9]{1,5}(?!\w)"),
    re.compile(r"(?<!\w)(?:apo|fpo|dpo),? a[aep] [0-9]{5}(?:-[0-9]{4})?(?!\w)"),
    re.compile(
        rf"(?<!\w)(?:[0-9]{{1,6}} )?{_PLAIN}{{2,30}}(?:straße|strasse|str\.|gasse|platz|allee|weg|gatan|gata|vägen|veien|"
        r"vejen|vej|gade|stræde|straat|laan|plein|katu|tie|kuja|braut|utca)\b [0-9]{1,5}[a-z]?(?!\w)"
    ),
    re.compile(
        r"(?<![\w.,])[0-9]{1,6} (?:[0-9]{1,5} )?(?:(?!(?:on|the|in|a|an|of|and|to|for|my|your|down|across|per|by|from|at|is)\b)"
        rf"{_WORD} ){{1,3}}?(?:street|road|avenue|boulevard|blvd|lane|terrace)\b"
    ),
)
_ADDRESS_CUE: Final = re.compile(
    r"(?<!\w)(?:address[^.\n:]{0,40}?(?: is|:| to| with)|lives? (?:at|on)|located (?:at|on)|(?:is|off|arrived|meet|office) at|"
    r"(?:return|taxi|sent|send [^.\n]{1,20}?) to|deliver(?:ed)? to|ship(?:ped)? to)\s{1,6}([0-9]{1,6})(?=\s)"
)
# Between two words of one address: separators, marks of a quoted mail, and what belongs to an address.
_BETWEEN: Final = re.compile(
    r"(?:[\s,.#>*?|()/-]|(?<![\w])(?:apt|suite|ste|unit|box|flat|room|floor|no|nr|of|de|del|des|du|la|le|les|el|da|do|der|den|di|nad|an|am|ul|o|st)"
    r"(?![\w])['’]?){0,24}+"
)
_WITHIN: Final = re.compile(
    r"[ ]{1,2}|-| ?['’] ?|\. ?| (?:de|del|des|du|la|le|el|da|do|dos|der|den|di|nad|an der|am|of|upon|of the) "
)
_NAME_GAP: Final = re.compile(
    r"[ ]{1,2}|\. ?|['’-]| (?:de|del|der|di|da|van|von|la|le|al|bin|el|ben) | [A-ZÁ]\.? "
)
_LINE: Final = re.compile(r"[^\n]{1,400}+")
_QUOTE: Final = re.compile(r"[\s>?*|-]{0,12}+")
_NO_NAME: Final = frozenset(
    "iban ssn atm asap faq api pin url pdf html json xml sql http https usb cpu gpu dob cvv bic swift vat id mobile phone desk fax email".split()
)


def find_names(text: str, found: Iterable[Finding] = ()) -> tuple[Finding, ...]:
    """The names in `text`, of all of `NAME_KINDS`, from the wording and from what models `found`.

    `text` as it reads. In order, without overlaps. Never raises.
    """
    lower = lower_in_place(text)
    shown = _told(text, lower)
    model = [
        Finding(a, b, f.kind, min(f.score, _MODEL))
        for f in found
        for a, b in (_stripped(text, f.start, f.end),)
        if b > a and lower[a:b] not in _NO_NAME
    ]
    sure = outermost(_surer(shown, model))
    joined = _joined(text, lower, outermost([*sure, *_beside(sure, model)]))
    kept = [f for f in joined if f.score >= _SURE or _plausible(text, f)]
    return outermost([*kept, *_lines(text, kept)])


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    value = text[start:end]
    return start + len(value) - len(value.lstrip()), end - len(value) + len(value.rstrip())


def _surer(shown: Iterable[Finding], model: list[Finding]) -> Iterator[Finding]:
    """`shown` without countries and peoples that are but a word of an organisation's name, or of a place's."""
    organisations = outermost(m for m in model if m.kind == "ORGANIZATION")
    places = outermost(m for m in model if m.kind == "LOCATION")
    for f in shown:
        if f.kind in ("LOCATION", "NRP"):
            whole = _around(organisations, f)
            if whole and whole.end - whole.start > f.end - f.start + 1:
                continue
        if f.kind == "NRP" and _around(places, f):
            continue
        yield f


def _around(findings: tuple[Finding, ...], f: Finding) -> Finding | None:
    n = bisect_right(findings, f.start, key=lambda g: g.start) - 1
    return findings[n] if n >= 0 and findings[n].end >= f.end else None


def _beside(sure: tuple[Finding, ...], model: list[Finding]) -> Iterator[Finding]:
    """What a model found where nothing surer is; where that is of the same kind, the whole."""
    at = 0
    for f in sorted(model):
        while at < len(sure) and sure[at].end <= f.start:
            at += 1
        start, n = f.start, at
        while n < len(sure) and sure[n].start < f.end:
            if sure[n].kind != f.kind:
                if sure[n].start > start:
                    yield Finding(start, sure[n].start, f.kind, f.score)
                start = max(start, sure[n].end)
            n += 1
        if start < f.end:
            yield Finding(start, f.end, f.kind, f.score)


def _told(text: str, lower: str) -> Iterator[Finding]:
    for expression in _PERSON_CUES:
        for m in expression.finditer(text):
            if not _COUNTRY.fullmatch(lower, m.start(1), m.end(1)):
                yield Finding(m.start(1), m.end(1), "PERSON", _SURE)
    for expression in (_LEGAL, _AT_WORK, _COMPANY_IS):
        for m in expression.finditer(text):
            yield Finding(*m.span(m.lastindex or 0), "ORGANIZATION", _SURE)
    for m in _COUNTRY.finditer(lower):
        yield Finding(m.start(), m.end(), "LOCATION", _SURE)
    plain = text == lower
    for m in _PEOPLE.finditer(lower):
        if text[m.start()].isupper() or (plain and m.group() != "polish"):
            yield Finding(m.start(), m.end(), "NRP", _SURE)
    yield from _addresses(text, lower)


def _addresses(text: str, lower: str) -> Iterator[Finding]:
    if "corner" not in lower and not any(c.isdecimal() for c in lower):
        return
    for expressions, of in ((_ADDRESS, text), (_ADDRESS_LOWER, lower)):
        for expression in expressions:
            for m in expression.finditer(of):
                yield Finding(m.start(), m.end(), "LOCATION", _SURE)
    for m in _ADDRESS_CUE.finditer(lower):
        yield Finding(m.start(1), m.end(1), "LOCATION", _MODEL)


def _joined(text: str, lower: str, found: tuple[Finding, ...]) -> list[Finding]:
    """The words of one name as one finding."""
    out: list[Finding] = []
    for f in found:
        if out and out[-1].kind == f.kind and _belong(text, lower, out[-1], f):
            last = out[-1]
            out[-1] = Finding(last.start, f.end, f.kind, max(last.score, f.score))
        else:
            out.append(f)
    return out


def _belong(text: str, lower: str, a: Finding, b: Finding) -> bool:
    if b.start - a.end > 24:
        return False
    if a.kind == "PERSON":
        return b.start == a.end or bool(_NAME_GAP.fullmatch(text, a.end, b.start))
    if a.kind != "LOCATION":
        return text[a.end : b.start] in ("", " ")
    if b.start == a.end or _WITHIN.fullmatch(lower, a.end, b.start):
        return True
    # "London, Paris" are two places, "12 High Street, London" is one.
    number = any(c.isdecimal() for c in text[a.start : b.end])
    return number and bool(_BETWEEN.fullmatch(lower, a.end, b.start))


def _plausible(text: str, f: Finding) -> bool:
    """Whether a model's finding may be a name: it has letters, and a capital where the text has capitals."""
    value = text[f.start : f.end]
    if not any(c.isalpha() for c in value):
        return False
    if any(c.isupper() for c in value) or not any(c.islower() for c in value):
        return len(value) > 1
    return len(value) > 2 and not any(c.isupper() for c in text)


def _lines(text: str, found: list[Finding]) -> Iterator[Finding]:
    """Short lines under a line of an address belong to it, as on an envelope."""
    places = [f for f in found if f.kind == "LOCATION"]
    if "\n" not in text or not places:
        return
    lines = [m.span() for m in _LINE.finditer(text)]
    under = 0
    at = 0
    for start, end in lines:
        begin = min(end, _QUOTE.match(text, start, end).end())  # type: ignore[union-attr]
        if begin >= end:
            under = 0
            continue
        while at < len(places) and places[at].end <= begin:
            at += 1
        covered = sum(
            min(end, p.end) - max(begin, p.start)
            for p in places[at : at + 8]
            if p.start < end and p.end > begin
        )
        value = text[begin:end]
        if 2 * covered >= end - begin and any(c.isdecimal() for c in value):
            under = 4
        elif under and len(value) <= 40 and len(value.split()) <= 4 and ":" not in value and "@" not in value:
            under -= 1
            if not value.endswith((".", "!", "?", ",")):
                yield Finding(begin, end, "LOCATION", _MODEL)
        else:
            under = 0
