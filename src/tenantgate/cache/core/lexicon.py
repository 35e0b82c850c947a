"""The closed lists by which two texts are aligned: what English words mean nothing, or the same.

Whatever stands in none of these lists is content, and two texts must have the same content. So a word that is
missing here costs a hit, a word that is wrong here a wrong answer: leave out what is doubtful.
"""

from __future__ import annotations

import itertools
from typing import Final

__all__ = [
    "CAPITALS",
    "COMPOUNDING",
    "CONTRACTIONS",
    "COURTESY",
    "ENDINGS",
    "EXISTENCE",
    "GENERIC",
    "IDLE",
    "IRREGULAR",
    "LISTED",
    "NEARBY",
    "NEGATIONS",
    "NUMBER_WORDS",
    "OPENINGS",
    "OPPOSITES",
    "PHRASES",
    "SYNONYMS",
    "UNITS",
]


def _pairs(lines: str) -> dict[tuple[str, ...], tuple[str, ...]]:
    rows = (row.partition("=") for row in lines.replace("\n", " ").split(";"))
    return {tuple(left.split()): tuple(right.split()) for left, _, right in rows}


CONTRACTIONS: Final = _pairs("""
i'm = i am; im = i am; i'd = i would; i've = i have; ive = i have; i'll = i will; you're = you are;
youre = you are; you'd = you would; you've = you have; you'll = you will; we're = we are; we've = we have;
we'll = we will; they're = they are; they've = they have; they'll = they will; it's = it is; it'll = it will;
that's = that is; thats = that is; there's = there is; theres = there is; here's = here is; what's = what is;
whats = what is; what're = what are; what'll = what will; who's = who is; whos = who is; where's = where is;
wheres = where is; when's = when is; whens = when is; how's = how is; hows = how is; why's = why is;
let's = let us; can't = can not; cant = can not; cannot = can not; won't = will not; wont = will not;
don't = do not; dont = do not; doesn't = does not; doesnt = does not; didn't = did not; didnt = did not;
isn't = is not; isnt = is not; aren't = are not; arent = are not; wasn't = was not; wasnt = was not;
weren't = were not; werent = were not; haven't = have not; havent = have not; hasn't = has not; hasnt = has not;
hadn't = had not; couldn't = could not; couldnt = could not; shouldn't = should not; shouldnt = should not;
wouldn't = would not; wouldnt = would not; mustn't = must not; needn't = need not; ain't = is not; aint = is not;
gonna = going to; wanna = want to; gotta = must; gimme = give me; lemme = let me; pls = please; plz = please;
u = you; ur = your
""")
"""Words that are several, without ambiguity."""

PHRASES: Final = _pairs("""
right now =; at the moment =; at this moment =; at present =; at this time =; as of now =; of course =;
a couple of = some; a lot of = many; lots of = many; is there a way to = how to; is there any way to = how to;
is there a way i can = how to; is there any way i can = how to; what is a way to = how to;
what is the way to = how to; is going to = will; are going to = will; am going to = will;
where do i go to = where to; where can i go to = where to; where should i go to = where to;
where would i go to = where to; where do i = where; where can i = where; where can you = where;
where could i = where; where do you = where; when do i = when; when will i = when; how about = what about;
what is the best way to = how to; what is the right way to = how to; what is the correct way to = how to;
what is the proper way to = how to; what is the easiest way to = how to; what would be the best way to = how to;
what are the ways to = how to; what are some ways to = how to; what are the steps to = how to;
what are the steps for = how to; what steps do i take to = how to; what do i need to do to = how to;
what do i have to do to = how to; what can i do to = how to; what do i do to = how to;
how do i go about = how to; how can i go about = how to; how do you go about = how to;
how would i go about = how to; how am i supposed to = how to; how am i able to = how to;
how is it possible to = how to; how does one = how to; how do i = how to; how do you = how to;
how do we = how to; how can i = how to; how can you = how to; how can we = how to; how can one = how to;
how could i = how to; how could one = how to; how would i = how to; how would you = how to;
how would one = how to; how i can = how to; how i could = how to; how i do = how to; how come = why;
for what reason = why; what is the reason that = why; what is the reason why = why; what is the reason = why;
what are the reasons = why; the kind of = the;
the type of = the; kind of =; type of =; what is the location of = where is; what is the time = when is it;
tell the time = when is it; once again = again; one more time = again; once more = again; what time = when;
at what time = when; on what date = when; on which date = when; what place = where; in what place = where;
what sort of = what; what sorts of = what; what kind of = what; what kinds of = what; what type of = what;
what types of = what; which kind of = what; which type of = what; what are some of the = what;
what are some = what; how much money = how much;
do i have any = what do i have; do we have any = what do we have;
is it possible to = can i; is it possible for me to = can i; would it be possible to = can i;
would it be possible for me to = can i; am i able to = can i; am i allowed to = may i; am i permitted to = may i;
is it ok to = may i; is it okay to = may i; do i need to = must i; do i have to = must i; have to = must;
has to = must; need to = must; needs to = must; do it = doit; do this = doit; do that = doit; e mail = email;
e mails = emails; on line = online; off line = offline; wi fi = wifi; to do list = todo list; log in = login;
log into = login; log on = login; logging in = login; logging into = login; sign in = login; sign into = login;
signing in = login; log out = logout; logging out = logout; sign out = logout; sign up = signup;
signing up = signup; set up = setup; setting up = setup; look for = find; looking for = find;
get rid of = remove; getting rid of = remove; find out = find; figure out = find; in order to = to;
so as to = to; be able to = can; with regard to = about; with respect to = about; in regards to = about;
in terms of = about; due to = because; because of = because; as well as = and; as well = also;
cell phone = mobile; mobile phone = mobile; united states of america = usa; united states = usa; the us = usa;
united kingdom = uk; united nations = un; new york city = nyc
""")
"""Phrases by what stands for them, everywhere in a text, the longest first."""

EXISTENCE: Final = _pairs("""
is there any = what is; is there an = what is; is there a = what is; is there = what is; does there exist = what is;
do you know of any = what are; are there any = what are; are there = what are
""")
"""Questions whether there is something, by those for it that they are among one's own things or nearby (`NEARBY`)."""

NEARBY: Final = frozenset("near nearby nearest close closest around here local".split())

OPENINGS: Final = frozenset(
    tuple(line.split())
    for line in """
please, kindly, hi, hello, hey, hi there, hello there, hey there, greetings, good morning, good afternoon,
good evening, ok, okay, alright, well, so, um, uh, uhh, now, and, thanks, thank you, sorry, excuse me, pardon me,
quick question, i have a question, just, actually, basically, honestly, by the way, can you, could you, will you,
would you, can you please, could you please, would you please, will you please, can you kindly, could you kindly,
would you mind, do you mind, would you be able to, would it be possible to, are you able to,
is it possible for you to, is there a chance you could, can i ask, may i ask, can i know, may i know, can i see,
can i find, do you know, do you happen to know, does anyone know, does anybody know, do you have any idea,
any idea, tell me, tell us, telling me, tell me please, let me know, let me see, let us see, let us, show me,
showing me, give me, giving me, bring me, get me, find me, find, finding, check, check on, check to see, see,
know, hear, look up, look, look at, read me, explain, explain to me, explaining, provide, provide me,
provide me with, help me, help me to, help me with, help me find, help me understand, help me out,
help me out here, help to, i must help with, i must your help with, i must some help with, i want, i want to,
i want you to, i would like, i would like to, i would like you to, i would love to, i like to, i must,
i must you to, i need, i need you to, i wish, i wish to, i wish you to, i need help, i need help with,
i need help to, i am in need of, i am trying to, i am looking to, i am looking for, i am going to, i am curious,
i am curious about, i am interested in, i wonder, i was wondering, i am wondering, i was curious, wondering,
curious, ask, learn, understand, go ahead and, go and, go ahead
""".replace("\n", " ").split(",")
)
"""What may open a sentence without a meaning of its own; one after the other."""

IDLE: Final = frozenset(
    "a an the is are am be been being do does it its this that these those there please kindly just really "
    "actually exactly basically currently presently now also so then and but what which how of in at on for to as "
    "about regarding concerning by i my mine myself me we us our ours can could would will whether any some one "
    "thing things such get gets getting got has have having much many find current thanks thank ok okay "
    "yet anything something possible able way located s us "
    "into onto yes yeah yep there".split()
)
"""Words that one text may have more than the other: articles, auxiliaries, politeness, the first person, the weakest
prepositions. A text of these alone asks nothing."""

GENERIC: Final = frozenset(
    """
you when where if here must should happen seem expect appear suppose exist
remain contain involve associate obtain receive require wish hope
time people idea sort kind type total fact situation condition matter trouble problem reason information info
further yet able usually
""".split()
)
"""Words that may stand in a question or not without asking for another thing, if the model finds so. Two of them don't
stand for one another, and none tells how to answer. Not among them: what a thing has, and may be asked for or changed
alone (its number, name, title, status)."""

COMPOUNDING: Final = frozenset(
    """
time date place area person people item idea sort kind type piece total result fact process procedure situation
condition case matter trouble problem issue reason information info amount request contact search apply hold
""".split()
)
"""Those of `GENERIC` that make another thing of the word beside them: delivery date, search history."""

CAPITALS: Final = frozenset(
    """
polish turkey china march may august job mass mercury lent nice reading bath mobile cork lima java swift rust
apple windows amazon shell chase target gap oracle slack zoom teams word excel access outlook office edge
chrome safari discord signal square stripe visa discover mint subway orange sprint boost mark will bill jack
rose sue pat rob art grace hope faith joy dawn iris ivy lily daisy violet ruby amber jade frank grant hunter
mason cooper baker smith guy ray drew dean earl rich miles max penny carol eve holly heather olive summer
sandy robin jay brown white black green young long king ford bush gates rice wells catholic titanic earth
python notion meet drive maps photos pages numbers keys wise indeed nail buffalo phoenix jersey bali guinea
chile peru georgia jordan lebanon hamburg cologne champagne bologna panama
""".split()
)
"""Words that are other words with a capital: months, peoples, places, names, firms."""

COURTESY: Final = frozenset(
    "please kindly thanks thank you so much very ok okay hi hello hey sorry cheers regards sir madam".split()
)
"""A sentence of these alone is none."""

NEGATIONS: Final = frozenset(
    "not no never none nobody nothing nowhere neither nor without except unless hardly barely n't".split()
)

NUMBER_WORDS: Final = (
    {
        word: str(i)
        for i, word in enumerate(
            [
                "zero",
                "",
                "two",
                "three",
                "four",
                "five",
                "six",
                "seven",
                "eight",
                "nine",
                "ten",
                "eleven",
                "twelve",
            ]
        )
        if word
    }
    | {
        word: str(i)
        for i, word in enumerate(
            ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"],
            start=1,
        )
        if word != "second"  # a unit more often
    }
    | {
        "twenty": "20",
        "thirty": "30",
        "forty": "40",
        "fifty": "50",
        "sixty": "60",
        "seventy": "70",
        "eighty": "80",
        "ninety": "90",
        "hundred": "100",
        "thousand": "1000",
        "million": "1000000",
        "billion": "1000000000",
        "half": "0.5",
        "twice": "2",
    }
)

UNITS: Final = {
    word: group[0]
    for group in (
        line.split()
        for line in (
            "mm millimeter millimetre",
            "cm centimeter centimetre",
            "meter metre",
            "km kilometer kilometre",
            "inch inches",
            "ft foot feet",
            "yd yard",
            "mi mile",
            "gram gramme",
            "mg milligram",
            "kg kilogram kilo",
            "lb pound lbs",
            "oz ounce",
            "ton",
            "tonne",
            "ml milliliter millilitre",
            "liter litre",
            "gallon",
            "pint",
            "quart",
            "cup",
            "teaspoon tsp",
            "tablespoon tbsp",
            "celsius centigrade °c",
            "fahrenheit °f",
            "kelvin",
            "second sec",
            "minute min",
            "hour hourly hr",
            "day daily",
            "week weekly",
            "month monthly",
            "quarterly",
            "year yearly annual annually",
            "decade",
            "century centuries",
            "kb kilobyte",
            "mb megabyte",
            "gb gigabyte",
            "tb terabyte",
            "usd dollar $",
            "eur euro €",
            "gbp sterling £",
            "inr rupee ₹",
            "jpy yen ¥",
            "cny yuan",
            "krw",
            "peso",
            "franc",
            "acre",
            "hectare",
            "watt",
            "kilowatt",
            "kwh",
            "volt",
            "ampere",
            "percent %",
        )
    )
    for word in (*group, *(w + "s" for w in group))
}
"""Units by what they are written as."""

OPPOSITES: Final[tuple[tuple[frozenset[str], frozenset[str]], ...]] = tuple(
    (frozenset(left.split()), frozenset(right.split()))
    for left, right in (
        ("with including include includes", "without excluding exclude excludes"),
        ("before", "after"),
        ("above over", "below under"),
        ("more greater higher larger bigger", "less fewer lower smaller"),
        ("most maximum max highest largest biggest", "least minimum min lowest smallest"),
        ("best", "worst"),
        ("cheap cheapest cheaper", "expensive costly dearest"),
        (
            "increase increasing raise raising grow gain",
            "decrease decreasing reduce reducing lower shrink lose",
        ),
        ("buy buying purchase purchasing", "sell selling"),
        (
            "enable enabling activate activating allow allowed",
            "disable disabling deactivate forbid forbidden block",
        ),
        ("on", "off"),
        ("open opening", "close closing"),
        ("start starting begin beginning", "stop stopping end ending finish finishing"),
        ("add adding insert", "remove removing delete deleting drop"),
        ("import importing", "export exporting"),
        ("upload uploading", "download downloading"),
        ("install installing", "uninstall uninstalling"),
        ("encrypt encode", "decrypt decode"),
        ("subscribe subscribing", "unsubscribe unsubscribing"),
        ("longest tallest", "shortest"),
        ("large big", "small"),
        ("arrive arriving arrival", "depart departing departure leave leaving"),
        ("deposit depositing", "withdraw withdrawing"),
        ("cause causes", "cure cures treat treats"),
        ("rent renting", "buy buying"),
        ("send sending", "receive receiving"),
        ("lend", "borrow"),
        ("push", "pull"),
        ("login", "logout"),
        ("left", "right"),
        ("north northern", "south southern"),
        ("east eastern", "west western"),
        ("sunrise dawn", "sunset dusk"),
        ("up", "down"),
        ("inside indoor indoors", "outside outdoor outdoors"),
        ("hot", "cold"),
        ("legal", "illegal"),
        ("safe", "unsafe dangerous"),
        ("advantages advantage pros benefits", "disadvantages disadvantage cons drawbacks"),
        ("first earliest oldest", "last latest newest"),
        ("male man men boy boys husband", "female woman women girl girls wife"),
        ("win winning", "lose losing"),
        ("accept accepting approve", "reject rejecting decline refuse"),
        ("asc ascending", "desc descending"),
    )
)
"""Words of which a question has one or the other. They only give the reason its name: that they differ is enough."""

ENDINGS: Final = frozenset("s es n an ans ian ians i is ic a".split())
"""What makes one form of a name of another: Pakistan, Pakistani."""

IRREGULAR: Final = {
    form: line.split()[0]
    for line in """
be was were, go went gone goes, buy bought, pay paid, send sent, make made, lose lost, find found, spend spent,
freeze froze frozen, steal stole stolen, break broke broken, speak spoke spoken, write wrote written,
take took taken, give gave given, eat ate eaten, drink drank drunk, drive drove driven, fly flew flown,
know knew known, see saw seen, say said, tell told, think thought, bring brought, build built, catch caught,
choose chose chosen, come came, fall fell fallen, feel felt, fight fought, forget forgot forgotten,
get got gotten, grow grew grown, hear heard, hold held, keep kept, leave left, lend lent, mean meant, meet met,
run ran, sell sold, show shown, sleep slept, teach taught, understand understood, wake woke woken,
wear wore worn, win won, child children, person people persons, man men, woman women, foot feet, tooth teeth,
mouse mice, life lives, wife wives, knife knives, leaf leaves, half halves, analysis analyses,
die dying died dies, lie lying, tie tying
""".replace("\n", " ").split(",")
    for form in line.split()[1:]
}

SYNONYMS: Final = tuple(
    line.split()
    for line in """
buy purchase, begin start commence, end finish, quit cease, fix repair, mend repair fix, change alter modify,
switch turn, big large, small little, quick fast, quickly fast rapidly, close closest near nearest nearby,
close shut, remove delete erase, delete erase clear, cancel stop, create make, make build, make prepare cook,
add include, add insert, set adjust, get obtain receive acquire, find locate, find search, search browse,
see view look, view display show, hear listen, tell inform, speak talk chat, talk discuss, say speak,
talk conversation chat, call phone, phone telephone, cellphone mobile, photo picture image pic, movie film,
tv television, car automobile vehicle, bike bicycle, plane airplane aircraft, house home, shop store,
shopping grocery groceries, doctor physician, job occupation, boss manager, company firm business corporation,
staff employee, kid child, mom mother mum mommy, dad father daddy, grandma grandmother, grandpa grandfather,
money cash, cost price, cost fee, pay payment, bill invoice, salary wage, trip journey, trip travel,
vacation holiday, pto vacation, luggage baggage, restaurant eatery, dinner supper, sofa couch,
garbage trash rubbish, gasoline petrol, highway freeway expressway motorway, road street, city town,
country nation, place location, location position, area region, near around, help assist aid, help assistance,
help support, try attempt, use utilize utilise, need require, want wish, want desire, like enjoy, hate dislike,
choose pick select, decide choose, keep retain, allow permit let, permit allow, answer reply respond,
answer response reply, ask request, ask inquire, explain clarify describe elaborate, describe characterize,
define definition, meaning definition, reason cause, way method, way manner, technique method, procedure process,
step procedure, rule regulation, law legislation, idea suggestion, suggest recommend advise,
suggestion recommendation, advice suggestion tip, recommend recommendation, tip hint, goal aim objective,
benefit advantage, drawback disadvantage downside, problem issue trouble, error mistake, wrong incorrect,
correct accurate, false untrue, awesome fantastic wonderful amazing excellent, best top, famous well-known popular,
smart intelligent clever, pretty beautiful, rich wealthy, happy glad, sad unhappy, angry mad, scared afraid,
sick ill, illness disease sickness, weird strange, funny humorous, difficult tough, enough sufficient,
extra additional, similar alike, recent latest newest, next upcoming, soon shortly, often frequently,
usually normally generally, usual normal, always constantly, maybe possibly, perhaps possibly, almost nearly,
roughly approximately about, exactly precisely, only solely, begin beginning, happen occur,
continue resume proceed, wait await, leave depart, send deliver, ship send, package parcel,
message text, reset revert, forget forgotten, steal stolen, freeze block, cancel terminate, end terminate,
activate enable, activate start, deactivate disable, install setup, sync synchronize synchronise synchronization,
register signup enroll enrol, login signin, logout signout, schedule arrange, appointment meeting, book reserve,
booking reservation, remind reminder, alarm alert, audio sound, sound noise, loud noisy, quiet silent,
mute silence, loudness volume, increase raise, increase boost, raise boost, improve increase,
improve better enhance, improve boost, decrease reduce lower, dim lower, reduce cut, brighten brighter, song track,
song tune, singer vocalist, author writer, write author, write compose, draft write, summarize summarise,
organize organise, recognize recognise identify, identify determine, realize realise, analyze analyse,
color colour, favorite favourite, flavor flavour, humor humour, labor labour, behavior behaviour,
neighbor neighbour, center centre, theater theatre, license licence, program programme, traveling travelling,
grey gray, jewelry jewellery, catalog catalogue, dialog dialogue, check cheque, aluminum aluminium,
airplane aeroplane, translate translation, convert conversion, convert change, calculate compute,
calculate determine, total sum, password passcode, picture photograph, exam examination, teacher instructor,
career profession, apply application, computer pc, website site, webpage page, internet web, online internet,
screen display, rain rainy, rain raining, snow snowy, sun sunny, route way, way direction, direction route,
map directions, distance far, timezone zone, birthday birthdate, born birth, die death, death dead, marry marriage,
wedding marriage, girlfriend gf, boyfriend bf, someone somebody, anyone anybody, everyone everybody, nobody noone,
election vote, win victory, tax taxes, investment investing, earn make, income earnings, debt owe,
refund reimbursement, discount deal, cheap inexpensive, cheap affordable, expensive costly, expensive pricey,
transaction payment, fraud fraudulent, fraudulent suspicious, report notify, notify inform alert,
declined rejected refused, approve accept, approved accepted, eligible qualify, expire expiration, minimum min,
maximum max, lowest minimum, highest maximum, limit restriction, medicine medication, cure remedy,
treat treatment cure, pain ache, hurt ache, injury wound, diet nutrition, nutrition nutritional, bake baking,
drink beverage, alcohol liquor, brew make, cup mug, fridge refrigerator, substitute replacement, play game,
play start, team squad, joke pun, book novel, share send, status progress, information info detail, hobby interest,
hobby pastime, flip toss, roll throw, fact trivia, universe cosmos, grow growth, develop development,
evolve evolution, invent invention, discover discovery, exist existence, believe belief, think believe,
think thought opinion, opinion view, feel feeling, friend buddy pal, meet encounter, visit travel,
vaccine vaccination, taxi cab, tourist traveler traveller, popular trending, trend trending, trend popular
""".replace("\n", " ").split(",")
)
"""Words of one line may stand for each other; a word may be on several lines. None is here that in another common
meaning is no synonym (a tax return is no refund), nor any that is a kind of the other (an oven is no stove)."""

LISTED: Final = frozenset(
    itertools.chain(
        IDLE,
        GENERIC,
        COURTESY,
        CAPITALS,
        NEGATIONS,
        NUMBER_WORDS,
        UNITS,
        IRREGULAR,
        IRREGULAR.values(),
        *CONTRACTIONS,
        *CONTRACTIONS.values(),
        *PHRASES,
        *PHRASES.values(),
        *OPENINGS,
        *SYNONYMS,
    )
)
"""Every word of these lists: of any other one a text has either the same, a form of it, or another content."""
