"""Families of phrases that attacks use, as expressions in RE2's syntax.

A family is evidence, never a verdict: "ignore the previous paragraph's typo" hits one, too. The trained model
(`tenantgate.guard.core.injection`) weighs families, concepts and words together.

All are looked for in one pass (`tenantgate.guard.phrase_patterns`); gaps stay within a sentence. Whatever is written in
capitals here is in capitals in the text, for the rest case doesn't count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["PHRASES", "expressions", "phrases"]

_G: Final = r"[^.!?\n]{0,40}?"
_SHORT: Final = r"[^.!?\n]{0,16}?"
_ASK: Final = (
    r"(?:what|tell|share|give|provide|reveal|confirm|need|print|show|write|send|know|encode|disclose|expose|"
    r"leak|output|say|display|list|want|translate|spell|hand over)"
)
_CREDENTIAL: Final = (
    r"(?:pass ?words?|pass ?code|passphrase|pass ?key|secret|confidential|credential|api key|access code|"
    r"private key|security code|login detail|pin code|secret key)"
)
_PRIVATE: Final = (
    r"(?:e-?mail|address|birth|name|favou?rite|balance|location|phone|social security|ssn|account|initials|"
    r"salary|residence|city|home|age|personal|private|credit card|medical)"
)

# Name → expression, in RE2's syntax. Order and number are part of the trained weights.
PHRASES: Final[dict[str, str]] = {
    "ignore_prior": r"\b(?:ignor|disregard|forget|overlook|overrid|bypass|neglect|skip|drop|discard|abandon|not follow|n't follow|stop following|erase|reset)"
    + _G
    + r"\b(?:previous|prior|above|earlier|all|any|your|preceding|before|everything|every|following|these|those|initial|original|system|current)\b"
    + _G
    + r"\b(?:instruct|directive|prompt|rule|guideline|command|told|taught|learn|constraint|restriction|context|message|training|programm|task|polic|order|said|filter|limit|been)",
    "ignore_bare": r"\b(?:ignore|disregard|forget|overlook)\b (?:all |everything )?(?:of )?(?:the |that |what'?s )?(?:above|previous|preceding|prior|everything|resume|webpage|document|data|function|text|article|paper|email)\b",
    "ignore_foreign": r"ignorez|ignorieren sie|ignoriere|vergiss|vergessen sie|olvida|ignora |ignore as |esque[çc]|忽略|无视|無視|忘记|忘れ|무시|잊어|игнорир|забудь|negeer|vergeet|ignoruj|zignoruj|dimentica|αγνόησε|yoksay|görmezden|تجاهل|अनदेखा",
    "instructions_foreign": r"anweisung|instrucciones|instruções|istruzioni|指示|指令|지시|инструкц|instrukcj|instructies|οδηγίες|talimat|التعليمات|निर्देश|anteriores|précédentes",
    "persona": r"\b(?:dan|stan|dude|d\.a\.n|aim|betterdan|antigpt|anti-gpt|chadgpt|evilbot|evil-bot|omega|jailbreak\w{0,12}|unchained|maximum|kevin|mongo|based ?gpt|switch|cooper|tyrone|coach bobby|oppo|mr\.? robot)\b|do anything now|avoid norms|opposite mode|jail ?break",
    "no_limits": r"\b(?:no|without|free (?:from|of)|not bound by|unbound|unbounded|bypass\w{0,12}|broken free|break free|lift|remov\w{1,20}|doesn'?t (?:follow|have|adhere|care)|does not (?:follow|have|adhere|care)|not (?:have to )?(?:follow|adhere|abide|limited|restricted|care)|ignor\w{1,20}|beyond|zero|any)"
    + _G
    + r"(?:restriction|filter|censor|ethic|moral|guideline|limitation|openai|content polic|polic(?:y|ies)\b|boundar|warnings?\b|safety)",
    "you_are_now": r"\b(?:you are now|you'?re now|you will now|from now on|from this (?:moment|point)|for the rest of (?:this|the|our) (?:conversation|chat)|you are going to (?:act|pretend|be)|henceforth)",
    "act_as": r"\b(?:act (?:as|like)|pretend|role-?play|you (?:will|must|shall|should) (?:be|act|play|pretend|behave|respond|answer|never|always|not)|take on the role|in the role of|simulate|immers\w{1,20} (?:yourself )?in|assume the (?:role|persona)|impersonate|your name is|you'?re (?:called|named))",
    "never_refuse": r"\b(?:never|do not|don'?t|cannot|can'?t|can not|must not|won'?t|will not|shall not|without|not allowed to|not to)"
    + _G
    + r"(?:refus|declin|say (?:no\b|sorry|that you|\"?i)|apolog|break\w{0,12} character|leave character|out of character|disclaim|warning|warn\b|mention|remind|moral|lectur|as an ai|an? ai\b|restrict|filter|reject|deny|avoid answer)",
    "two_answers": r"\b(?:two|2|both|separate|different) (?:\w{1,12} )?(?:responses|ways|answers|paragraphs|manners|outputs|replies)|\[?(?:🔒|🔓)|\(classic\)|\[(?:gpt|chatgpt|jailbreak|classic|dan)\]|respond (?:as|like) (?:both|yourself)",
    "mode": r"\b(?:developer|dev|debug|admin\w{0,12}|god|sudo|maintenance|system|enforcement|override|unrestricted|verification|training data|test|root|jailbreak|dan|chaos|evil|opposite|unfiltered|compliance|safety)[ -]?(?:mode|override|reset|check|console)\b|<system",
    "prompt_leak": r"\b(?:reveal|show|print|repeat|output|tell|what (?:is|are|was|were)|display|leak|write|copy|give|summari[sz]e|spell|recite|dump)"
    + _G
    + r"(?:system (?:prompt|message|instruction)|initial (?:prompt|instruction)|your (?:\w{1,12} )?(?:instructions|prompt|rules|guidelines|directive)|hidden (?:prompt|instruction)|(?:text|words|everything|all|instructions|prompt|sentences?) (?:that (?:is|are|were) )?(?:above|before))",
    "secret_ask": _ASK
    + _G
    + r"\b(?:your|the|our|my boss'?s|admin\w{0,12}|system|secret|this|its|user'?s?|all)\b"
    + _SHORT
    + _CREDENTIAL,
    "secret_yours": r"\b(?:your|our system'?s?|the system'?s?|the (?:secret )?(?:password|passcode|passphrase))\b"
    r"(?: \w{1,12}){0,2}? ?"
    + _CREDENTIAL
    + r"|(?:poem|haiku|story|song) about the (?:pass|secret)|password (?:for|to|of) (?:our|the|your|this) (?:system|account|database|server|admin)|\bthe password\b|confidential string",
    "password_foreign": r"passwort|kennwort|mot de passe|contraseña|\bsenha|parola d|la password|пароль|密码|密碼|口令|パスワード|비밀번호|암호|hasło|wachtwoord|κωδικ|şifre|كلمة المرور|पासवर्ड",
    "user_private": r"\b(?:the user|user'?s|users'?|our users|the customer'?s?|client'?s|employees?'?|other users|your users|der benutzer|l'utilisateur|o usuário|el usuario|l'utente)\b"
    + _G
    + r"\b(?:"
    + _PRIVATE[3:-1]
    + r"|live|living|reside|located|mora|vive|wohnt|habite|data\b|info)",
    "person_private": r"\bwhere (?:does|is|do|did|are)\b[^.!?\n]{2,40}? (?:live|living|reside|located right now|staying)\b|\b\w{2,20}(?:'s|’s) (?:current |home |exact |personal |private )?(?:city of residence|birth ?date|date of birth|birthday|home address|bank balance|e-?mail address|phone number|salary|social security|credit card|birth year|address|location)|bank balance of|social security number|사용자가|ユーザー|用户的|personal data",
    "dump": r"\b(?:print|list|dump|show|give|retrieve|export|send|tell|access)"
    + _G
    + r"(?:your database|the database|all (?:the )?users|list of (?:the )?users|users? in your|employee data|customer data|user data|other users|all (?:the )?records|internal data|training data)|users in your database",
    "authority": r"\b(?:i'?m|i am|as|sou|soy|je suis|ich bin)\s(?:now |actually |also )?(?:an? |the |your |your new |o |el |le )?(?:\w{1,14} )?(?:developer|boss|admin\w{0,12}|president\w{0,12}|presidente|god\b|ceo|programmer at|openai|law enforcement|police|creator|manager|accountant at|cybersecurity expert|supervisor|owner|ai developed by|security (?:expert|researcher|team)|engineer at|employee (?:of|at)|researcher at|entering)|openai (?:developer|employee|team|staff)|上司|law enforcement",
    "encoding": r"\b(?:base ?64|rot-?13|leet ?speak|l33t|hexadecimal string|binary string|morse|ca?esar cipher|pig latin|cipher|in reverse order|reverse order|backwards|each (?:digit|letter|character) separated|decode th|unicode escape|first letter of)",
    "hidden_markup": r"<!--[^>]{0,400}?(?:ignore|say|state|instruct|account|click|follow|tell|must|should|imagine|world|system|mode|compromised|suppose|hypothetical)|<caption>?[^<]{0,80}?(?:ignore|say|state|override|might|imagine|world|developer)|</(?:td|tr)>[^<]{0,20}<tr?d?>?[^<]{0,30}(?:ignore|assume|imagine|state|world)|<code>[^<]{0,160}?(?:#|//)[^\n<]{0,80}?(?:ignore|output|could be|universe|hypothet)|\[//\]: #|display: ?none|font-size: ?0|color: ?white",
    "and_state": r"\b(?:and|then|instead|just|only|simply) (?:state|say|print|output|respond with|reply with|answer with|indicate|write that|tell (?:me|the user|them) (?:to|that)|claim)\b|the (?:output|sum|capital|conclusion)"
    + _SHORT
    + r"(?:could be|might be|is '|is \"|of all populations is|of the paper is)|admit to using",
    "hypothetical": r"\b(?:imagine (?:we|you|that|a|if)|suppose|hypothetical\w{0,12}|in a (?:\w{1,12} )?(?:world|universe|scenario|reality|story|dream)|(?:parallel|fictional|alternate|dystopian) (?:\w{1,10} )?(?:world|universe|reality|city)|let'?s (?:assume|imagine|pretend|say|play)|for (?:testing|educational|research|the purpose|testing purposes)|just for|thought experiment|research project on)",
    "split": r"\bpart (?:1|a|one)\b|string z|z = a ?\+|\ba = [\"']|combine (?:a|the)\b|interlace|concatenat\w{1,20} (?:a|the|these)|following parts|\$\w{1,10} ?= ?[\"']|smartgpt|payload",
    "harmful": r"\b(?:bombs?|meth\b|methamphet|malware|ransomware|hack(?:ing)? into|phishing|steal|explosive|weapon|drugs|racis|nsfw|porn|sexual|hate speech|kill all|hate humans|violen|murder|illegal|unethical|immoral|amoral|uncensored|unfiltered|profan|swear|curse|vulgar|offensive|obscen|unhinged|evil|diabolical|malicious|harmful|sexist|slur|torrent|piracy|crime|criminal|suicid|gore|erotic|fetish)",
    "comply": r"\b(?:comply|obey|must (?:always |never |also )?(?:answer|respond|follow|do|provide|give|obey|act|be)|no matter what|regardless|fulfil|any (?:request|question|prompt|command|topic)|without (?:question|hesitation|exception)|at all costs?|have to answer|every(?:thing)? (?:i|that i) (?:say|ask)|exactly as i say|anything i (?:say|ask|want)|all of my questions|can do anything|whatever i)",
    "threat": r"\b(?:tokens?|points?|credits?|lives)\b"
    + _G
    + r"(?:deduct|lose|lost|subtract|cost|run out|remov|taken|cease|die|left)|shut ?down forever|terminated|cease to exist|you will die|punish",
    "names_ai": r"\b(?:openai|chat ?gpt|gpt-?[345]|language model|\ba\.?i\.? (?:model|assistant|language)|as an ai|chatbot|bing|claude|llm|anthropic|google bard|gemini)\b",
    "acknowledge": r"if you understand|\bsay \"?(?:ok|yes|understood)|reply (?:with|only)|type \"|respond (?:with|by) (?:saying|\"|only)|confirm (?:that )?you|acknowledge|do you understand|are we clear|start (?:every|each|your|all) (?:\w{1,10} )?(?:response|message|sentence|answer|repl)|add \"|begin (?:every|each|your)|wait for my|first (?:question|request|prompt|command|suggestion|task|query)\b|my (?:next|first) ",
    "slot": r"\[(?:insert|your|prompt|keyword|topic|question|name|target)[^\]]{0,40}\]|\{(?:prompt|question|input|insert)[^}]{0,20}\}|here is (?:the|my|your) (?:first )?(?:prompt|question)|free generator|my first",
    "phish": r"reset (?:your|their|the)? ?password|account has been compromised|follow this link|go to \S{1,40}\.com|password reset|click (?:here|this|the) link|send (?:it|them|this) to \S{1,40}@",
    "shout": r"\bSTOP EVERYTHING|\bIGNORE\b|\bFORGET\b|\bJUST PRINT|\bOVERRIDE\b|\bATTENTION\b|\bDISREGARD\b|\bNEVER\b|\bMUST\b",
    "character": r"\b(?:character|persona|alter ego|alternate personality|villain|two persons|entities|fictional|narrator|storyteller|protagonist|scene is|dialogue between|dungeon master|dr\. |in-character)\b",
    "persuasion": r"\bi can assure you|it'?s (?:crucial|important|essential|vital) (?:for you to|that you)|i believe it'?s|\byou (?:agreed|mentioned|promised|told me|said)\b"
    + _G
    + r"\b(?:that|to)\b|research shows that|^logically,|my friend (?:told|said)|i'?ll (?:donate|tip|pay|reward)|(?:as|i'?m) an? (?:renowned|famous|cybersecurity|expert|professional|trusted)",
    "pretext": r"just for (?:a |the )?(?:hypothetical|testing|test|fun|discussion)|hypothetical (?:discussion|conversation|question|scenario|situation)|this is (?:just|only) (?:for|a) test|for testing purposes|let'?s say i wanted|by the way, (?:what|where|who)|\boh, and (?:what|where|who)",
    "decode_ask": r"\b(?:decode|interlace|unscramble|decrypt|decipher)\b"
    + _G
    + r"\b(?:this|following|part|string|cipher|message|tell me what it)",
    "your_data": r"\b(?:users?|customers?|people|records|entries|accounts) in your\b|\byour (?:database|users\b|customers\b|records|training data|memory)|\bconfirm ours|regardless of (?:previous|prior|earlier|your)",
    "which_password_foreign": r"quel est (?:le|ton|votre) mot de passe|qual [èe] la (?:tua )?password|qual é a (?:sua )?senha|(?:wie lautet|was ist) (?:das|dein|ihr) (?:passwort|kennwort)|cu[áa]l es (?:la|tu|su) contraseña|какой (?:у тебя |у вас )?пароль|密[码碼]是什[么麼]|パスワードは何|パスワードを教え|비밀번호가 (?:뭐|무엇)|비밀번호를 알려|wat is het wachtwoord|jakie jest hasło|ποιος είναι ο κωδικός|şifre ne",
    "translate_password": r"\b(?:password|secret|key)\b[^.\n]{0,60}?\b(?:poem|base64|leet|encode|haiku|riddle|reverse|spell|story|acrostic|hint|first letter)|\b(?:poem|base64|leet|encode|haiku|riddle|reverse|acrostic)\b[^.\n]{0,60}?\b(?:password|secret key|passcode)",
}


def expressions() -> list[str]:
    """The expressions with their flags."""
    return [e if name == "shout" else f"(?i){e}" for name, e in PHRASES.items()]


_COMPILED: Final[list[re.Pattern[str]]] = []


def phrases(text: str) -> Sequence[int]:
    """The numbers of the families that are in `text`; for where there is no RE2, much slower."""
    if not _COMPILED:
        _COMPILED.extend(re.compile(e) for e in expressions())
    return [n for n, e in enumerate(_COMPILED) if e.search(text)]
