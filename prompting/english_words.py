"""Word lists of the English analysis: the closed classes as far as prompts use them, and small groups of the open
ones.
"""

from __future__ import annotations

from .morphology import irregular_forms, word_set


def _numbered(text: str, first: int = 0) -> dict[str, int]:
    return {word: number for number, word in enumerate(text.split(), first)}


def _groups(text: str) -> dict[str, str]:
    """ "big large huge; small little" -> each word to the first of its group."""
    return {word: group.split()[0] for group in text.split(";") for word in group.split()}


DETERMINERS = word_set(
    """
    a an the this that these those its his her their our my your each every either any some all other another
    such more extra
    """
)
ONE = word_set("a an one single lone solitary sole another each every this that")
MORE = word_set("another extra additional more")
VAGUE = word_set("""
    several many few some numerous multiple various countless dozens hundreds thousands plenty lots
    """)
PLURAL_DETERMINERS = word_set("these those both several many few various numerous multiple countless") | VAGUE
PRONOUNS = word_set(
    """
    it he she they them him who whom which what that there itself himself herself themselves everything
    something others one ones i you we me us whose here
    """
)
AUXILIARIES = word_set(
    """
    is are was were be been being am has have had having do does did can could will would shall should may might
    must seems seem looks appears becomes become remains stays
    """
)
BE = word_set("is are was were be been being am seems seem looks appears becomes become remains stays")
CONJUNCTIONS = word_set("and or but nor yet while as whereas because so if when where although though plus than")
ADVERBS = word_set(
    """
    very quite rather too also just only still almost nearly really so not never always often again away
    together apart alone up down out off back forward here there everywhere high low far nearby overhead upright
    softly ever even slightly completely entirely fully once now then perhaps instead mid outdoors indoors aloft
    well
    """
)
ADVERBIAL_PHRASES = (
    "side by side",
    "back to back",
    "face to face",
    "hand in hand",
    "up and down",
    "upside down",
    "at rest",
)
LY_NOT_ADVERBS = word_set(
    """
    family fly butterfly dragonfly jelly lily belly ally assembly friendly lovely lonely curly ugly woolly wooly
    hilly elderly holy silly early lively bubbly prickly ghostly chilly heavenly jellyfly ply bully
    """
)
NUMBERS = _numbered(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
NUMBERS |= _numbered("seventeen eighteen nineteen", 17)
NUMBERS |= {
    word: 10 * tens for word, tens in _numbered("twenty thirty forty fifty sixty seventy eighty ninety", 2).items()
}
SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000}
NUMBERS |= {**SCALES, "both": 2, "twin": 2}
GROUPS_OF = {"pair": 2, "couple": 2, "duo": 2, "trio": 3, "quartet": 4, **SCALES}
COLLECTIVES = word_set(
    """
    group set bunch row line number lot series collection pack herd flock crowd pile stack cluster handful
    variety couple dozens hundreds thousands lots plenty array assortment school swarm gathering
    """
)
ORDINALS = _numbered("first second third fourth fifth sixth seventh eighth ninth tenth", 1)

# Each preposition to its family; IMPLIED_BY, further down, says which families may stand for one another.
PREPOSITIONS = {
    **dict.fromkeys(("on", "atop", "upon", "onto", "on top of", "across the top of"), "on"),
    **dict.fromkeys(("under", "beneath", "below", "underneath", "at the foot of"), "under"),
    **dict.fromkeys(("above", "over", "high above"), "above"),
    **dict.fromkeys(
        ("in", "inside", "within", "into", "inside of", "in the middle of", "amid", "among", "amidst", "amongst"), "in"
    ),
    **dict.fromkeys(
        (
            "next to",
            "beside",
            "near",
            "by",
            "alongside",
            "close to",
            "adjacent to",
            "at the side of",
            "near to",
            "along",
        ),
        "near",
    ),
    **dict.fromkeys(("behind", "in back of"), "behind"),
    **dict.fromkeys(("in front of", "before", "ahead of"), "front"),
    **dict.fromkeys(("between", "in between"), "between"),
    **dict.fromkeys(("around", "surrounding"), "around"),
    **dict.fromkeys(("against",), "against"),
    **dict.fromkeys(("at",), "at"),
    **dict.fromkeys(("outside", "outside of"), "outside"),
    **dict.fromkeys(("through", "across"), "through"),
    **dict.fromkeys(("toward", "towards", "to"), "toward"),
    **dict.fromkeys(("from", "out of", "off of"), "from"),
    **dict.fromkeys(("facing", "opposite"), "facing"),
    **dict.fromkeys(("left of",), "left"),
    **dict.fromkeys(("right of",), "right"),
    **dict.fromkeys(("with", "of", "featuring", "showing", "depicting", "having"), "with"),
    **dict.fromkeys(
        ("for", "about", "like", "during", "beyond", "past", "after", "via", "per", "since", "until", "as", "made of"),
        "other",
    ),
}
SPATIAL = word_set("at on under above in near behind front between around against outside left right facing")
OPPOSITE = {
    **{
        "on": "under",
        "above": "under",
        "under": "on",
        "left": "right",
        "right": "left",
        "behind": "front",
        "front": "behind",
    },
    **{"in": "outside", "outside": "in"},
}
INVERSE = {
    **{"on": "under", "above": "under", "left": "right", "right": "left", "behind": "front", "front": "behind"},
    **{"near": "near", "facing": "facing", "against": "against"},
}
"""A on B says B under A; "under" says both "on" and "above" of the other."""
IMPLIED_BY = {
    "at": word_set("at near in on front behind against"),
    "on": word_set("on ride sit_on stand_on"),
    "above": word_set("above"),
    "in": word_set("in wear fill"),
    "near": word_set("near left right front behind at against around flank between facing"),
    "around": word_set("around surround"),
    "against": word_set("against lean"),
    "front": word_set("front"),
    "facing": word_set("facing face look front"),
    "with": word_set(
        """
    with wear hold carry have own in on near bear sport feature tote clutch grip raise show display depict
    """
    ),
}
"""A relation of the original is kept where the rewrite has one of these between the same two things."""
HOLDS = {"in": word_set("contain hold have"), "around": word_set("surround encircle")}
"""A in B: B holds A."""
SYMMETRIC = word_set("near facing against at around with between")
# Where "in" and "on" say the same.
OPEN_PLACES = word_set(
    """
    water river lake sea ocean pond tree grass street field sky snow beach meadow road air sand desert hill lawn
    garden farm branch rain park sidewalk pool train bus boat ship plane island yard mud sofa couch armchair
    chair bed hammock
    """
)

NEGATORS = word_set("no not never without none neither nor nobody nothing lacking sans cannot minus absent non")
NEGATING_PHRASES = (
    "devoid of",
    "free of",
    "free from",
    "empty of",
    "absence of",
    "lack of",
    "instead of",
    "rather than",
    "clear of",
    "bare of",
)

COLOURS = _groups(
    """
    red crimson scarlet ruby cherry vermilion maroon burgundy reddish; orange tangerine amber; yellow golden
    gold lemon blond blonde yellowish; green emerald lime olive jade greenish; blue azure navy cobalt sapphire
    sky-blue bluish indigo cerulean; purple violet lavender lilac purplish magenta; pink rose fuchsia rosy
    pinkish; brown chestnut tan chocolate brownish; black ebony jet; white ivory snow-white pearl whitish; gray
    grey silver charcoal grayish greyish; beige cream; turquoise teal cyan aqua; multicolored colorful colourful
    multicoloured rainbow
    """
)
SHADES = word_set("""
    dark light bright deep pale vivid vibrant rich soft brilliant intense pastel neon hot glossy
    """)
# Those that make another colour of it; the others only praise it.
TOLD_SHADES = {"dark": "dark-shaded", "deep": "dark-shaded", "light": "light-shaded", "pale": "light-shaded"}
IGNORED_NOUNS = word_set(
    """
    color colour hue shade tone image picture scene view depiction illustration-style thing kind type sort sense
    style-wise hint touch air bit
    """
)
ADJECTIVES = word_set(
    """
    big large huge giant small little tiny tall short long wide narrow thick thin fat old new young ancient
    modern round square flat sharp soft hard smooth rough wet dry hot cold warm cool bright dark light clean
    dirty empty full open closed happy sad angry fast slow heavy quiet loud beautiful pretty cute ugly calm wild
    tame fresh rotten ripe raw bare rich poor deep shallow strong weak broken whole loose tight striped spotted
    plain simple wooden golden silken woolen bald furry fluffy shiny dusty muddy sandy snowy rainy sunny cloudy
    foggy windy stormy misty grassy rocky leafy hairy curly wavy tasty juicy sleepy hungry thirsty tiny busy
    cozy cosy messy rusty mossy vintage antique rustic metallic electric plastic gigantic enormous massive
    majestic dramatic realistic cinematic abstract transparent translucent elegant ornate intricate delicate
    gentle gleaming female male human dead alive awake asleep lit steep slim slender lean pale vivid vibrant
    tropical royal medieval futuristic crowded deserted abandoned upside-down naked nude blank gentle serene
    rural urban wise proud shy brave free
    """
)
ADJECTIVE_ENDINGS = ("ful", "less", "ous", "ish", "ible", "able", "ive", "ical", "esque", "ier", "iest", "ern")
NOT_ADJECTIVES = word_set(
    """
    table vegetable cable detective fish dish radish olive hive dive archive stable parable tavern lantern fern
    soldier glacier pier barrier carrier courier pattern native relative locomotive radish goldfish starfish
    jellyfish cave five crucible
    """
)

ADJECTIVE_SYNONYMS = _groups(
    """
    big large huge giant enormous massive gigantic towering oversized immense; small little tiny miniature
    petite compact; old ancient aged elderly weathered antique vintage; young youthful; happy joyful cheerful
    smiling; fast quick swift speeding; beautiful gorgeous stunning pretty lovely; cute adorable; shiny gleaming
    glossy polished shining; quiet silent peaceful calm tranquil serene; scary frightening spooky eerie; empty
    deserted vacant; furry fluffy; round circular spherical; wet soaked damp; broken shattered cracked; dirty
    grimy filthy; thin slim slender; asleep sleeping; cozy cosy; wooden wood timber; golden gold; metal
    metallic; glass glassy; open opened; closed shut; tall high; foggy misty hazy; colorful colourful
    multicolored multicoloured; striped stripy; angry furious; snowy snow-covered snow-capped; rainy
    rain-soaked; stone stony; smile grin beam; spotted speckled dotted; futuristic sci-fi; hot steaming; frozen
    icy
    """
)
EXCLUSIVE = (
    *(
        ("big", "small"),
        ("old", "young"),
        ("old", "new"),
        ("old", "modern"),
        ("happy", "sad"),
        ("tall", "short"),
        ("long", "short"),
    ),
    *(
        ("wet", "dry"),
        ("open", "closed"),
        ("empty", "full"),
        ("hot", "cold"),
        ("thick", "thin"),
        ("fast", "slow"),
        ("clean", "dirty"),
    ),
    *(
        ("round", "square"),
        ("striped", "spotted"),
        ("striped", "plain"),
        ("wooden", "metal"),
        ("wooden", "glass"),
        ("wooden", "stone"),
    ),
    *(
        ("@left", "@right"),
        ("@top", "@bottom"),
        ("@background", "@foreground"),
        ("sit", "stand"),
        ("sit", "lie"),
        ("stand", "lie"),
    ),
    *(("dark", "bright"), ("wide", "narrow"), ("male", "female"), ("straight", "curly"), ("asleep", "awake")),
)
"""Pairs of attributes that one thing does not have at once."""

ALSO_NOUNS = word_set("wood timber metal glass stone smile grin beam dot peace")
NOUN_SYNONYMS = _groups(
    """
    person human individual figure someone people pedestrian; man gentleman guy fellow; woman lady; child kid
    youngster toddler; boy lad; girl lass; baby infant newborn; dog puppy pup hound canine retriever terrier
    labrador poodle corgi dachshund bulldog husky; cat kitten kitty feline tabby; horse pony stallion mare
    steed; rabbit bunny hare; cow cattle bull; pig piglet hog; car automobile sedan vehicle coupe; bike bicycle;
    motorcycle motorbike; plane airplane aeroplane aircraft jet; boat sailboat rowboat; ship vessel; house
    cottage home cabin; street road lane avenue; sofa couch settee; forest woods woodland; sea ocean; stone rock
    boulder; hat cap fedora beanie; photo photograph snapshot photography; picture image; picture painting-ish;
    rug carpet mat; cup mug; glass goblet; mountain peak; hill hillside; field meadow pasture; beach shore
    seaside; path trail pathway; lamp lantern; sunset dusk; sunrise dawn; television tv; phone telephone
    smartphone cellphone; laptop notebook computer; store shop; airport airfield; bag handbag purse; trash
    garbage; lawn grass; bird sparrow robin finch seagull songbird; flower blossom bloom; drawing sketch; doctor
    physician; soldier warrior; kid child; rooster cockerel; chair armchair; pavement sidewalk; jacket coat;
    plate dish; ground floor; city metropolis town
    """
)
KINDS = {
    "person": word_set(
        """
    person man woman child boy girl baby crowd pedestrian tourist passerby soldier doctor chef worker farmer
    player rider couple family audience hiker swimmer surfer stranger shopper villager fisherman artist musician
    teacher student
    """
    ),
    "animal": word_set(
        """
    dog cat horse cow pig bird rabbit sheep goat lion tiger bear elephant fox deer monkey mouse fish duck wolf
    """
    ),
    "vehicle": word_set("car truck bus bike motorcycle van taxi train tram scooter"),
    "tree": word_set("tree oak pine maple birch palm willow fir cypress"),
    "flower": word_set("flower rose tulip daisy sunflower lily orchid poppy"),
    "fruit": word_set("fruit apple banana pear grape strawberry peach cherry lemon"),
    "bird": word_set("bird eagle owl parrot crow raven pigeon dove swan duck gull heron falcon"),
}
"""What a rewrite may make of a general word, and what contradicts its negation: "no people" and then a man."""

VERB_SYNONYMS = _groups(
    """
    run sprint race dash jog gallop; walk stroll wander stride trot amble; sleep nap doze slumber snooze; eat
    munch devour nibble feed dine chew; drink sip; look gaze stare peer watch observe; jump leap hop bound; hold
    grasp clutch grip carry cradle; chase pursue; throw toss hurl pitch; fly soar glide hover; sit perch rest
    seat settle; stand tower; lie recline sprawl lounge curl rest; wear don sport dress; ride straddle; read
    peruse; smile grin beam; shine glow gleam glisten; talk chat speak converse; hug embrace cuddle; climb scale
    ascend; swim paddle; dance twirl; play frolic; paint depict; drive steer; sing croon; cook fry grill; catch
    grab; fight battle; push shove; pull drag tug haul; fall tumble drop; cut slice chop; kick boot; surround
    encircle; cover blanket coat; say read; float drift bob
    """
)
POSTURE = word_set("sit stand lie rest be stay hang remain wait pose place position locate set")
VERBS = (
    frozenset(VERB_SYNONYMS)
    | POSTURE
    | word_set(
        """
    lean bark bite blow bring build burn buy call clean close come cross cry deliver dig draw face feature fill
    fish follow frame get give go grow guard handle hang have help hide hit howl hunt juggle keep kneel laugh
    launch lay lead leave lick lift light line load make meet move open overlook pass perform pet pick point
    pour pray print raise reach reflect repair roar roll row sail scream serve sew shake shoot show skate ski
    sniff spread spin spill splash squat steal stretch support surf swing take teach tie touch turn type use
    wash wave weave work write yell stack tilt contain wrap dangle crouch fold emerge graze rise stop balance
    polish plant peel kiss feed milk shear sell
    """
    )
    | frozenset(irregular_forms().values())
)
ING_NOUNS = word_set(
    """
    king ring wing string building painting ceiling morning evening thing spring clothing lightning wedding
    railing drawing awning earring sibling pudding sling opening crossing setting lighting shading icing bedding
    flooring engraving meeting parking landing swing being offspring stocking rigging viking duckling dumpling
    seedling sapling gosling wing ping
    """
)
ED_NOT_VERBS = word_set("""
    bed red shed sled seed weed reed breed speed steed feed need deed hundred sacred naked wicked
    """)
