"""The identifiers of persons, firms, accounts and things: how each is written, what is called so, and its check.

A row says: the kind, its check, the characters without separators, the writing that needs no word nearby, the words in
the languages of its country, and how sure both ways are. A check with a dot is a module of python-stdnum
(https://arthurdejong.org/python-stdnum/), one without a function of `tenantgate.pii.core.checksums`, ``-`` is none.
A star in a word stands for more letters, as in "steueridentifikations*".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["IDENTIFIERS", "Identifier"]


@dataclass(frozen=True, slots=True)
class Identifier:
    """One kind of identifier.

    Attributes:
        kind: its name, Presidio's where it has one.
        check: the name of its check.
        compact: expression of its capitals and digits, without separators.
        written: expression of the writing that suffices without a word; empty where none does.
        words: what it is called, in lower case.
        told: score beside a word, 0 to 1.
        alone: score of `written` without a word, 0 to 1.
    """

    kind: str
    check: str
    compact: str
    written: str
    words: tuple[str, ...]
    told: float
    alone: float


def _row(
    kind: str,
    check: str,
    compact: str,
    words: str,
    written: str = "",
    *,
    told: float = 0.85,
    alone: float = 0.6,
) -> Identifier:
    return Identifier(kind, check, compact, written, tuple(w for w in words.split("|") if w), told, alone)


_D9: Final = "[0-9]{9}"
_D10: Final = "[0-9]{10}"
_D11: Final = "[0-9]{11}"

IDENTIFIERS: Final = (
    # North America
    _row("US_SSN", "ssn", _D9, "ssn|social security|social security*"),
    _row(
        "US_ITIN",
        "us.itin",
        "9[0-9]{8}",
        "itin|taxpayer identification",
        "9[0-9]{2}-[5-9][0-9]-[0-9]{4}",
        alone=0.7,
    ),
    _row(
        "US_EIN",
        "us.ein",
        _D9,
        "ein|fein|employer identification|employer id|federal tax id|tax id|irs number",
    ),
    _row("ABA_ROUTING_NUMBER", "us.rtn", _D9, "routing|aba|rtn|transit number"),
    _row("CA_SIN", "ca.sin", _D9, "sin|social insurance|nas|assurance sociale"),
    _row("CA_BN", "ca.bn", "[0-9]{9}(?:R[CMPTRZ][0-9]{4})?", "business number|gst/hst|numéro d'entreprise"),
    _row(
        "MX_CURP",
        "mx.curp",
        "[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[0-9A-Z][0-9]",
        "curp",
        "[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[0-9A-Z][0-9]",
        alone=0.9,
    ),
    _row(
        "MX_RFC",
        "mx.rfc",
        "[A-ZÑ&]{3,4}[0-9]{6}[0-9A-Z]{3}",
        "rfc|registro federal",
        "[A-ZÑ&]{3,4}-?[0-9]{6}-?[0-9A-Z]{2}[0-9A]",
    ),
    _row("MX_NSS", "luhn", _D11, "nss|imss|seguro social"),
    # South and Central America
    _row("BR_CPF", "cpf", _D11, "cpf", "[0-9]{3}\\.[0-9]{3}\\.[0-9]{3}-[0-9]{2}", alone=0.9),
    _row(
        "BR_CNPJ",
        "br.cnpj",
        "[0-9A-Z]{12}[0-9]{2}",
        "cnpj",
        "[0-9A-Z]{2}\\.[0-9A-Z]{3}\\.[0-9A-Z]{3}/[0-9A-Z]{4}-[0-9]{2}",
        alone=0.9,
    ),
    _row("BR_RG", "-", "[0-9]{7,9}[0-9X]", "rg|registro geral|carteira de identidade", told=0.6),
    _row(
        "AR_CUIT",
        "ar.cuit",
        _D11,
        "cuit|cuil|clave única",
        "(?:20|23|24|27|30|33|34)-[0-9]{8}-[0-9]",
        alone=0.8,
    ),
    _row("AR_DNI", "ar.dni", "[0-9]{7,8}", "dni|documento nacional|d.n.i", told=0.7),
    _row(
        "CL_RUT",
        "cl.rut",
        "[0-9]{7,8}[0-9K]",
        "rut|run|rol único|rol unico",
        "[0-9]{1,2}\\.[0-9]{3}\\.[0-9]{3}-[0-9Kk]",
        alone=0.85,
    ),
    _row("CO_NIT", "co.nit", "[0-9]{9,10}", "nit|número de identificación tributaria"),
    _row("CO_CEDULA", "-", "[0-9]{6,10}", "cédula|cedula|cédula de ciudadanía|c.c", told=0.6),
    _row("PE_RUC", "pe.ruc", _D11, "ruc|registro único"),
    _row("PE_DNI", "-", "[0-9]{8}", "dni|documento nacional", told=0.6),
    _row("EC_CI", "ec.ci", _D10, "cédula|cedula|cédula de identidad"),
    _row("EC_RUC", "ec.ruc", "[0-9]{13}", "ruc|registro único"),
    _row("UY_CI", "-", "[0-9]{8}", "cédula|cedula|cédula de identidad", told=0.6),
    _row("UY_RUT", "uy.rut", "[0-9]{12}", "rut|ruc"),
    _row(
        "VE_RIF",
        "ve.rif",
        "[VEJPG][0-9]{9}",
        "rif|registro de información fiscal",
        "[VEJPG]-[0-9]{8}-[0-9]",
        alone=0.8,
    ),
    _row("DO_CEDULA", "do.cedula", _D11, "cédula|cedula"),
    _row("CR_CPF", "cr.cpf", "0?[0-9]{9}", "cédula|cedula|cédula física"),
    _row("GT_NIT", "gt.nit", "[0-9]{7,8}[0-9K]", "nit"),
    # British Isles
    _row(
        "UK_NINO",
        "-",
        "[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{6}[A-D]",
        "national insurance|nino|ni number",
        "(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]",
        told=0.9,
        alone=0.9,
    ),
    _row("UK_NHS", "nhs", _D10, "nhs|chi number|health service"),
    _row("UK_UTR", "gb.utr", _D10, "utr|unique taxpayer|tax reference"),
    _row(
        "UK_DRIVER_LICENSE",
        "uk_driver",
        "[A-Z9]{5}[0-9]{6}[A-Z9]{2}[A-Z0-9]{3}",
        "driving licen*|driver's licen*|dvla",
        "[A-Z9]{5}[0-9]{6}[A-Z9]{2}[A-Z0-9]{3}",
        alone=0.7,
    ),
    _row(
        "IE_PPS",
        "ie.pps",
        "[0-9]{7}[A-W][ABWTX]?",
        "pps|ppsn|personal public service|uimhir psp",
        "[0-9]{7}[A-W][ABW]",
        alone=0.55,
    ),
    # France, Belgium, Netherlands, Luxembourg, Switzerland, Austria, Germany
    _row(
        "FR_NIR",
        "fr.nir",
        "[1-478][0-9]{2}[0-9]{2}(?:[0-9]{2}|2[AB])[0-9]{8}",
        "sécurité sociale|securite sociale|nir|insee|numéro de sécu*",
        "[12] [0-9]{2} (?:[0-9]{2}) (?:[0-9]{2}|2[AB]) [0-9]{3} [0-9]{3} [0-9]{2}",
        told=0.9,
        alone=0.8,
    ),
    _row("FR_SIRET", "fr.siret", "[0-9]{14}", "siret", "[0-9]{3} [0-9]{3} [0-9]{3} [0-9]{5}", alone=0.6),
    _row("FR_SIREN", "fr.siren", _D9, "siren|rcs"),
    _row("FR_TAX_ID", "fr.nif", "[0-3][0-9]{12}", "numéro fiscal|numero fiscal|spi|identifiant fiscal"),
    _row("FR_CNI", "-", "[0-9]{12}|[A-Z0-9]{9}", "carte d'identité|carte nationale|cni", told=0.65),
    _row(
        "BE_NATIONAL_NUMBER",
        "be.nn",
        _D11,
        "registre national|rijksregister*|numéro national|nationaal nummer|insz|niss|national register",
        "[0-9]{2}\\.[0-9]{2}\\.[0-9]{2}-[0-9]{3}\\.[0-9]{2}",
        alone=0.9,
    ),
    _row("NL_BSN", "bsn", _D9, "bsn|burgerservice*|sofi*"),
    _row("LU_NATIONAL_ID", "lu_matricule", "[12][0-9]{12}", "matricule|numéro d'identification|cns"),
    _row(
        "CH_AHV",
        "ch.ssn",
        "756[0-9]{10}",
        "ahv*|avs|oasi|navs*|sozialversicherung*",
        "756\\.[0-9]{4}\\.[0-9]{4}\\.[0-9]{2}",
        alone=0.95,
    ),
    _row(
        "CH_UID",
        "ch.uid",
        "CHE[0-9]{9}",
        "uid|ide|unternehmens*",
        "CHE-?[0-9]{3}\\.?[0-9]{3}\\.?[0-9]{3}",
        alone=0.8,
    ),
    _row("AT_SVNR", "at.vnr", _D10, "svnr|sv-nr|sozialversicherung*|versicherungsnummer|sv-nummer"),
    _row("AT_TAX_ID", "at.tin", _D9, "steuernummer|steuer-nr|abgabenkontonummer"),
    _row("DE_TAX_ID", "steuer_id", _D11, "steuer*|idnr|tax id|tin|identifikationsnummer"),
    _row("DE_TAX_NUMBER", "-", "[0-9]{10,13}", "steuernummer|steuer-nr|st.-nr|stnr|finanzamt", told=0.6),
    _row(
        "DE_SOCIAL_SECURITY",
        "de_rvnr",
        "[0-9]{8}[A-Z][0-9]{3}",
        "rentenversicherung*|sozialversicherung*|rvnr|versicherungsnummer|sv-nummer|social security",
        "[0-9]{2} ?[0-9]{6} ?[A-Z] ?[0-9]{3}",
        told=0.9,
        alone=0.7,
    ),
    _row(
        "DE_ID_CARD",
        "icao",
        "[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{8}[0-9]",
        "personalausweis*|ausweisnummer|ausweis-nr|id card|identity card",
    ),
    _row(
        "DE_HEALTH_INSURANCE",
        "de_kvnr",
        "[A-Z][0-9]{9}",
        "krankenversicherung*|kvnr|krankenversichertennummer|versichertennummer",
    ),
    # Southern Europe
    _row(
        "ES_NIF",
        "es.dni",
        "[0-9]{8}[A-Z]",
        "nif|dni|d.n.i",
        "[0-9]{2}\\.?[0-9]{3}\\.?[0-9]{3}-?[A-Za-z]",
        told=0.9,
        alone=0.7,
    ),
    _row(
        "ES_NIE",
        "es.nie",
        "[XYZ][0-9]{7}[A-Z]",
        "nie|extranjer*",
        "[XYZxyz]-?[0-9]{7}-?[A-Za-z]",
        told=0.9,
        alone=0.8,
    ),
    _row("ES_CIF", "es.cif", "[ABCDEFGHJNPQRSUVW][0-9]{7}[0-9A-J]", "cif|nif"),
    _row(
        "ES_SOCIAL_SECURITY",
        "es_nuss",
        "[0-9]{12}",
        "nuss|seguridad social|n.º afiliación|afiliación",
        "[0-9]{2}/[0-9]{8}/[0-9]{2}",
        alone=0.7,
    ),
    _row(
        "IT_FISCAL_CODE",
        "it.codicefiscale",
        "[A-Z]{6}[0-9LMNPQRSTUV]{2}[A-EHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]",
        "codice fiscale|c.f|cf",
        "(?i:[A-Z]{6}[0-9LMNPQRSTUV]{2}[A-EHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z])|(?i:[A-Z]{3} [A-Z]{3} [0-9]{2}[A-EHLMPRST][0-9]{2} [A-Z][0-9]{3}[A-Z])",
        told=0.95,
        alone=0.9,
    ),
    _row("IT_VAT_CODE", "it.iva", _D11, "partita iva|p.iva|p. iva|piva|p.i"),
    _row(
        "IT_IDENTITY_CARD",
        "-",
        "[A-Z]{2}[0-9]{5}[A-Z]{2}|[A-Z]{2}[0-9]{7}",
        "carta d'identità|carta di identità|carta d'identita|cie",
        told=0.7,
    ),
    _row("PT_NIF", "pt.nif", "[1-35689][0-9]{8}", "nif|contribuinte|número de contribuinte"),
    _row(
        "PT_CC",
        "pt.cc",
        "[0-9]{9}[A-Z0-9]{2}[0-9]",
        "cartão de cidadão|cartao de cidadao|cc",
        "[0-9]{8} [0-9] ?[A-Z]{2}[0-9]",
        alone=0.8,
    ),
    _row("PT_NISS", "-", "[12][0-9]{10}", "niss|segurança social", told=0.65),
    _row("GR_AFM", "gr.vat", _D9, "αφμ|α.φ.μ|afm"),
    _row("GR_AMKA", "gr.amka", _D11, "αμκα|α.μ.κ.α|amka"),
    _row("MT_ID", "-", "[0-9]{3,7}[MGAPLHBZ]", "karta tal-identità|maltese id", told=0.7),
    _row("CY_TIN", "-", "[0-9]{8}[A-Z]", "cyprus tax|αφτ", told=0.7),
    # Nordic and Baltic states
    _row(
        "SE_PERSONNUMMER",
        "se.personnummer",
        "(?:[0-9]{2})?[0-9]{10}",
        "personnummer*|pnr|person-nr|samordningsnummer*",
        "(?:19|20)?[0-9]{2}[01][0-9][0-369][0-9][-+][0-9]{4}",
        told=0.9,
        alone=0.75,
    ),
    _row("SE_ORGNR", "se.orgnr", _D10, "organisationsnummer*|org.nr|orgnr"),
    _row(
        "NO_FODSELSNUMMER",
        "no.fodselsnummer",
        _D11,
        "fødselsnummer*|fodselsnummer*|personnummer*|fnr|d-nummer",
        "[0-7][0-9][0-1][0-9][0-9]{2} ?[0-9]{5}",
        told=0.95,
        alone=0.6,
    ),
    _row("NO_ORGNR", "no.orgnr", _D9, "organisasjonsnummer*|org.nr|orgnr"),
    _row(
        "DK_CPR",
        "dk.cpr",
        _D10,
        "cpr*|personnummer*|cpr-nr",
        "[0-3][0-9][01][0-9][0-9]{2}-[0-9]{4}",
        told=0.9,
        alone=0.55,
    ),
    _row("DK_CVR", "dk.cvr", "[1-9][0-9]{7}", "cvr*|cvr-nr"),
    _row(
        "FI_PERSONAL_IDENTITY_CODE",
        "fi.hetu",
        "[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Z]|[0-9]{9}[0-9A-Z]",
        "hetu|henkilötunnus*|personbeteckning*|sotu",
        "[0-3][0-9][01][0-9]{3}[-+A-FU-Y][0-9]{3}[0-9A-Y]",
        told=0.95,
        alone=0.9,
    ),
    _row("FI_BUSINESS_ID", "fi.ytunnus", "[0-9]{8}", "y-tunnus|business id|fo-nummer"),
    _row(
        "IS_KENNITALA",
        "is_.kennitala",
        _D10,
        "kennitala|kennitölu|kt",
        "[0-3][0-9][01][0-9][0-9]{2}-[0-9]{3}[09089]",
        told=0.9,
        alone=0.6,
    ),
    _row("EE_IK", "ee.ik", "[1-8][0-9]{10}", "isikukood*|personal code|ik"),
    _row("LV_PK", "lv.pvn", _D11, "personas kods|personas kod*|p.k"),
    _row("LT_AK", "lt.asmens", "[1-6][0-9]{10}", "asmens kodas|asmens kod*|a.k"),
    # Middle and Eastern Europe
    _row("PL_PESEL", "pl.pesel", _D11, "pesel"),
    _row(
        "PL_NIP",
        "pl.nip",
        _D10,
        "nip",
        "[0-9]{3}-[0-9]{3}-[0-9]{2}-[0-9]{2}|[0-9]{3}-[0-9]{2}-[0-9]{2}-[0-9]{3}",
        alone=0.7,
    ),
    _row("PL_REGON", "pl.regon", "[0-9]{9}(?:[0-9]{5})?", "regon"),
    _row("PL_ID_CARD", "pl_id", "[A-Z]{3}[0-9]{6}", "dowód*|dowod*|dowodu osobistego"),
    _row(
        "CZ_BIRTH_NUMBER",
        "cz.rc",
        "[0-9]{9,10}",
        "rodné číslo|rodne cislo|rodného čísla|r.č|rč|rc",
        "[0-9]{2}[0-8][0-9][0-3][0-9]/[0-9]{3,4}",
        told=0.9,
        alone=0.7,
    ),
    _row("CZ_ICO", "cz.dic", "[0-9]{8}", "ičo|ico|ič"),
    _row("HU_TAJ", "hu_taj", _D9, "taj|taj-szám*|társadalombiztosítási"),
    _row("HU_TAX_ID", "hu_tax", "8[0-9]{9}", "adóazonosító*|adóazonosító jel|adojel"),
    _row(
        "RO_CNP",
        "ro.cnp",
        "[1-9][0-9]{12}",
        "cnp|cod numeric personal",
        "[1-9][0-9]{2}[01][0-9][0-3][0-9]{7}",
        told=0.95,
        alone=0.6,
    ),
    _row("RO_CUI", "ro.cui", "(?:RO)?[0-9]{6,10}", "cui|cif|cod fiscal|cod unic"),
    _row("BG_EGN", "bg.egn", _D10, "егн|egn|единен граждански"),
    _row("HR_OIB", "hr.oib", _D11, "oib|osobni identifikacijski"),
    _row(
        "SI_EMSO",
        "si.emso",
        "[0-9]{13}",
        "emšo|emso|jmbg|матични број|матичен број|јмбг|емг",
        "[0-3][0-9][01][0-9]{4}[0-9]{6}",
        told=0.9,
        alone=0.55,
    ),
    _row("SI_TAX_ID", "si.ddv", "[0-9]{8}", "davčna*|davčna številka"),
    _row("RS_PIB", "rs.pib", _D9, "pib|пиб"),
    _row("RU_INN", "ru.inn", "[0-9]{10}(?:[0-9]{2})?", "инн|inn"),
    _row(
        "RU_SNILS",
        "ru_snils",
        _D11,
        "снилс|snils",
        "[0-9]{3}-[0-9]{3}-[0-9]{3} [0-9]{2}",
        told=0.9,
        alone=0.85,
    ),
    _row("UA_RNOKPP", "ua.rntrc", _D10, "рнокпп|ідентифікаційний|іпн|rnokpp|ипн"),
    _row("UA_EDRPOU", "ua.edrpou", "[0-9]{8}", "єдрпоу|edrpou"),
    _row("TR_TCKN", "tr.tckimlik", "[1-9][0-9]{10}", "t.c|tc kimlik|tckn|kimlik no|kimlik numara*|tc no"),
    _row("TR_VKN", "tr.vkn", _D10, "vergi no|vergi kimlik|vkn|vergi numara*"),
    _row("KZ_IIN", "kz_iin", "[0-9]{12}", "иин|iin|жсн"),
    # Middle East and Africa
    _row("IL_ID", "il.idnr", "[0-9]{8,9}", "teudat zehut|תעודת זהות|ת.ז|israeli id|israel* id"),
    _row(
        "AE_EMIRATES_ID",
        "luhn",
        "784[0-9]{12}",
        "emirates id|هوية|uae id",
        "784-[0-9]{4}-[0-9]{7}-[0-9]",
        told=0.9,
        alone=0.9,
    ),
    _row("SA_NATIONAL_ID", "luhn", "[12][0-9]{9}", "iqama|الهوية|هوية|saudi id|saudi national|رقم الإقامة"),
    _row(
        "EG_NATIONAL_ID",
        "eg_nid",
        "[23][0-9]{13}",
        "الرقم القومي|egyptian id|egypt* national|national id",
        told=0.8,
    ),
    _row(
        "ZA_ID",
        "za.idnr",
        "[0-9]{13}",
        "south african id|id number|identity number|sa id|rsa id|id no",
        "[0-9]{6} [0-9]{4} [0-9]{2} ?[0-9]",
        told=0.9,
        alone=0.7,
    ),
    _row("KE_PIN", "ke.pin", "[AP][0-9]{9}[A-Z]", "kra pin|kra", told=0.9),
    _row("NG_NIN", "-", _D11, "nin|national identification number|bvn|bank verification", told=0.7),
    _row("GH_CARD", "-", "GHA[0-9]{10}", "ghana card", "GHA-[0-9]{9}-[0-9]", told=0.9, alone=0.85),
    # South and East Asia
    _row(
        "IN_PAN",
        "in_.pan",
        "[A-Z]{3}[ABCFGHJLPTK][A-Z][0-9]{4}[A-Z]",
        "pan|permanent account|pan card|पैन",
        "[A-Z]{3}[ABCFGHJLPTK][A-Z][0-9]{4}[A-Z]",
        told=0.95,
        alone=0.75,
    ),
    _row(
        "IN_AADHAAR",
        "aadhaar",
        "[2-9][0-9]{11}",
        "aadhaar|aadhar|uidai|आधार|uid",
        "[2-9][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}",
        told=0.9,
        alone=0.7,
    ),
    _row(
        "IN_GSTIN",
        "in_.gstin",
        "[0-9]{2}[A-Z]{5}[0-9]{4}[A-Z][0-9A-Z]Z[0-9A-Z]",
        "gstin|gst",
        "[0-9]{2}[A-Z]{5}[0-9]{4}[A-Z][0-9A-Z]Z[0-9A-Z]",
        told=0.95,
        alone=0.9,
    ),
    _row("IN_VOTER", "in_.epic", "[A-Z]{3}[0-9]{7}", "voter|epic|electoral"),
    _row("IN_IFSC", "-", "[A-Z]{4}0[A-Z0-9]{6}", "ifsc", told=0.8),
    _row(
        "PK_CNIC",
        "pk.cnic",
        "[1-7][0-9]{12}",
        "cnic|nicop|شناختی",
        "[1-7][0-9]{4}-[0-9]{7}-[0-9]",
        told=0.9,
        alone=0.85,
    ),
    _row("BD_NID", "-", "[0-9]{10}|[0-9]{13}|[0-9]{17}", "nid|জাতীয় পরিচয়|bangladesh* nid", told=0.65),
    _row(
        "LK_NIC",
        "-",
        "[0-9]{9}[VX]|(?:19|20)[0-9]{10}",
        "nic|sri lanka*",
        "[0-9]{2}[0-8][0-9]{6}[VX]",
        told=0.8,
        alone=0.55,
    ),
    _row(
        "CN_RIC",
        "cn.ric",
        "[1-9][0-9]{16}[0-9X]",
        "身份证|身份證|公民身份|resident identity|chinese id",
        "[1-9][0-9]{5}(?:19|20)[0-9]{2}[01][0-9][0-3][0-9]{4}[0-9Xx]",
        told=0.95,
        alone=0.9,
    ),
    _row(
        "TW_ID",
        "tw_id",
        "[A-Z][1289][0-9]{8}",
        "身分證|統一編號|taiwan* id",
        "[A-Z][12][0-9]{8}",
        told=0.95,
        alone=0.6,
    ),
    _row(
        "HK_ID",
        "hk_id",
        "[A-Z]{1,2}[0-9]{6}[0-9A]",
        "hkid|身份證|hong kong id",
        "[A-Z]{1,2}[0-9]{6}\\([0-9A]\\)",
        told=0.95,
        alone=0.85,
    ),
    _row(
        "KR_RRN",
        "kr_rrn",
        "[0-9]{13}",
        "주민등록번호|주민번호|rrn|resident registration|외국인등록번호",
        "[0-9]{2}[01][0-9][0-3][0-9]-[1-8][0-9]{6}",
        told=0.9,
        alone=0.75,
    ),
    _row(
        "KR_BRN",
        "kr.brn",
        _D10,
        "사업자등록번호|사업자번호|brn|business registration",
        "[0-9]{3}-[0-9]{2}-[0-9]{5}",
        alone=0.55,
    ),
    _row("JP_MY_NUMBER", "jp.in_", "[0-9]{12}", "マイナンバー|個人番号|my number|my-number"),
    _row(
        "SG_NRIC_FIN",
        "sg_nric",
        "[STFGM][0-9]{7}[A-Z]",
        "nric|fin|singapore id",
        "[STFGM][0-9]{7}[A-Z]",
        told=0.95,
        alone=0.7,
    ),
    _row("SG_UEN", "sg.uen", "[0-9]{8,9}[A-Z]|[TRS][0-9]{2}[A-Z]{2}[0-9]{4}[A-Z]", "uen|unique entity"),
    _row(
        "MY_NRIC",
        "my.nric",
        "[0-9]{12}",
        "mykad|nric|kad pengenalan|ic number|no. ic|ic no",
        "[0-9]{2}[01][0-9][0-3][0-9]-[0-9]{2}-[0-9]{4}",
        told=0.9,
        alone=0.8,
    ),
    _row(
        "TH_TNIN",
        "th.pin",
        "[1-8][0-9]{12}",
        "บัตรประชาชน|เลขประจำตัว*|thai id|thai national",
        "[1-8]-[0-9]{4}-[0-9]{5}-[0-9]{2}-[0-9]",
        told=0.9,
        alone=0.9,
    ),
    _row("ID_NIK", "id.nik", "[1-9][0-9]{15}", "nik|ktp|nomor induk kependudukan|e-ktp"),
    _row(
        "ID_NPWP",
        "id.npwp",
        "[0-9]{15,16}",
        "npwp",
        "[0-9]{2}\\.[0-9]{3}\\.[0-9]{3}\\.[0-9]-[0-9]{3}\\.[0-9]{3}",
        alone=0.8,
    ),
    _row("VN_CCCD", "vn_cccd", "0[0-9]{11}", "cccd|căn cước*|cmnd|chứng minh nhân dân"),
    _row("PH_PHILSYS", "-", "[0-9]{12}|[0-9]{16}", "philsys|psn|philid", told=0.7),
    # Australia, New Zealand
    _row("AU_TFN", "au.tfn", "[0-9]{8,9}", "tfn|tax file"),
    _row(
        "AU_ABN", "au.abn", _D11, "abn|australian business", "[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3}", alone=0.55
    ),
    _row("AU_ACN", "au.acn", _D9, "acn|australian company"),
    _row("AU_MEDICARE", "au_medicare", "[2-6][0-9]{9,10}", "medicare"),
    _row("NZ_IRD", "nz.ird", "[0-9]{8,9}", "ird|inland revenue"),
    _row(
        "NZ_NHI",
        "-",
        "[A-HJ-NP-Z]{3}[0-9]{4}|[A-HJ-NP-Z]{3}[0-9]{2}[A-HJ-NP-Z]{2}",
        "nhi|national health index",
        told=0.75,
    ),
    # Firms and value added tax in Europe
    _row(
        "EU_VAT",
        "eu.vat",
        "(?:AT|BE|BG|CY|CZ|DE|DK|EE|EL|ES|FI|FR|HR|HU|IE|IT|LT|LU|LV|MT|NL|PL|PT|RO|SE|SI|SK|XI)[0-9A-Z]{8,12}",
        "vat|ust*|umsatzsteuer*|tva|iva|btw|moms|mwst|nif-iva|uid|dph|pvn|pvm|alv",
        told=0.9,
    ),
    # Accounts
    _row("SWIFT_CODE", "bic", "[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?", "bic|swift|swift*", told=0.8),
    _row(
        "US_BANK_NUMBER",
        "-",
        "[0-9]{8,17}",
        "account number|account no|acct|account #|bank account|checking account|savings account",
        told=0.6,
    ),
    _row(
        "BANK_ACCOUNT",
        "clabe",
        "[0-9]{18}",
        "clabe",
        "[0-9]{3} ?[0-9]{3} ?[0-9]{11} ?[0-9]",
        told=0.9,
        alone=0.0,
    ),
    _row(
        "BANK_ACCOUNT",
        "-",
        "[0-9]{8,20}",
        "kontonummer|konto-nr|kontonr|kto|kto.-nr|konto|bankkonto|numéro de compte|numero de compte|rib|compte bancaire|cuenta bancaria|número de cuenta|"
        "numero de cuenta|cbu|cvu|conto corrente|numero di conto|rekeningnummer|bankrekening|numer konta|rachunek|nr konta|kontonummer*|bankkonto*|номер счета|номер счёта|расчетный счет|"
        "口座番号|계좌번호|账号|银行卡号|帳號|nuban|bsb|sort code|bank details|conta corrente|conta bancária|número da conta|tilinumero|számlaszám|číslo účtu|a/c no|a/c",
        told=0.65,
    ),
    _row("BANK_ACCOUNT", "-", "[0-9]{6}", "sort code", told=0.6),
    _row("BANK_ACCOUNT", "-", "[0-9]{8}", "blz|bankleitzahl", told=0.6),
    # Documents, cars, devices
    _row(
        "US_DRIVER_LICENSE",
        "five_digits",
        "[A-Z0-9]{5,20}",
        "driver's licen*|drivers licen*|driver licen*|driver’s licen*|driving licen*",
        told=0.7,
    ),
    _row(
        "DRIVER_LICENSE",
        "five_digits",
        "[A-Z0-9]{6,18}",
        "führerschein*|fuehrerschein*|permis de conduire|numéro de permis|permiso de conducir|carnet de conducir|licencia de conducir|"
        "patente di guida|patente|rijbewijs*|prawo jazdy|prawa jazdy|körkort*|førerkort*|kørekort*|ajokortti*|carta de condução|cnh|carteira de motorista|водительск*|права|運転免許*|驾驶证|운전면허*|ehliyet*|sürücü belgesi|dl number|dl no",
        told=0.7,
    ),
    _row(
        "PASSPORT",
        "four_digits",
        "[A-Z0-9]{6,12}",
        "passport|passport*|reisepass*|pass-nr|passnummer|passeport|pasaporte|passaporto|passaporte|paspoort*|paszport*|pass nr|passnr|pasport|pașaport*|"
        "passi number|паспорт*|pasaport*|διαβατήρι*|护照|護照|パスポート|旅券|여권|जواز|جواز سفر|דרכון|útlevél*|cestovní pas|pasu|putovnica|paspor|hộ chiếu|หนังสือเดินทาง",
        told=0.75,
    ),
    _row(
        "LICENSE_PLATE",
        "plate",
        "[A-Z0-9]{4,9}",
        "licence plate|license plate|number plate|registration plate|plate number|plate no|vehicle registration|car registration|reg plate|kennzeichen|"
        "autokennzeichen|amtliches kennzeichen|immatriculation|plaque|matrícula|matricula|targa|kenteken|placa|placas|tablica rejestracyjna|numer rejestracyjny|nummerplade|registreringsnummer|"
        "skiltnummer|plaka|госномер|номер машины|автомобил*|车牌*|車牌|ナンバープレート|차량번호|rendszám|spz|reg number",
        told=0.65,
    ),
    _row("VIN", "vin", "[A-HJ-NPR-Z0-9]{17}", "", "[A-HJ-NPR-Z0-9]{17}", alone=0.8),
    _row(
        "VIN",
        "vin_told",
        "[A-HJ-NPR-Z0-9]{17}",
        "vin|chassis|vehicle identification|fahrgestell*|fin|numéro de châssis|número de chasis|telaio|bastidor|chassisnummer",
        told=0.9,
    ),
    _row("IMEI", "imei", "[0-9]{15}", "imei", "[0-9]{2}-[0-9]{6}-[0-9]{6}-[0-9]", told=0.9, alone=0.7),
    _row("IMSI", "-", "[0-9]{14,15}", "imsi", told=0.75),
    _row(
        "NATIONAL_ID",
        "five_digits",
        "[A-Z0-9]{6,18}",
        "id-nummer|ausweis-nr|national id|national identity|identity card|id card|national identification|citizen id|identity number|personal identification|"
        "personalausweis*|carte d'identité|documento de identidad|carta d'identità|identiteitskaart|dowód osobisty|identitetskort|身份证号|удостоверение личности|nüfus cüzdanı|kimlik|بطاقة|residence permit|"
        "aufenthaltstitel*|titre de séjour|permesso di soggiorno|kartu identitas|id-kaart*|občanský průkaz*|personal id|personnummer*|rodné číslo|persónuskilríki|tax number|tax id|tin|medical record number|mrn|health insurance number|"
        "health card|insurance number|policy number|versicherungsnummer|student id|employee id|patient id|military id",
        told=0.6,
    ),
)
"""All identifiers that are found by a form or by a word nearby."""
