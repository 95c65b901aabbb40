"""Makes the names, paths and phrases that questions are about.

Everything is drawn from a `random.Random`, so a seed fixes the output. What is asked about the names is the
business of `intents.py`.
"""

from random import Random

WORDS = """
account action adapter address admin agent alert alias amount archive array asset audit auth author backend backup badge
balance banner basket batch billing binary block board body book booking branch bridge broker browser bucket budget buffer
build builder bundle button byte cache calendar callback campaign card cart catalog category cell channel chart chat check
checkout chunk city class client clock cluster code collector color column command comment commit company config
connection consumer contact container content context contract control cookie copy core counter country coupon course
crawler credit currency cursor customer daemon dashboard data database date deadline debug decoder delivery deploy detail
device dialog diff digest discount dispatch display document domain draft driver edge editor element email encoder engine
entity entry env error event exam export factory feature feed field file filter flag folder font form format frame friend
function game gateway graph grid group guard guest handler hash header health hook host hotel image import inbox index
input insert invoice issue item job journal json key kernel label language layer layout ledger lesson level library
license limit line link list loader local location lock log login loop mail manager map margin market matrix member memo
memory menu merge message meta method metric migration mirror model module monitor mount name network node note notice
number object offer offset option order output owner package page panel parser partner patch path payment payroll
permission person phone photo pipeline player plugin point policy pool port post price printer process product profile
project prompt proxy query queue quota quote range rate reader record redirect region registry relay release reminder
render report request reset resource response result retry review role room route router rule sample scanner schedule
schema scope score screen script search season seat secret section segment seller sender sensor serializer server service
session setting shape share shipment signal site skill slot snapshot socket source space stage state station status step
stock storage store stream string student style subject summary supplier support survey switch symbol sync system table
tag target task tax team template tenant tenure terminal test theme thread ticket tile timer title token tool topic trace
tracker trade train transfer trial trigger tunnel type unit update upload user value vault vector vendor version video
view visit voucher walker wallet warehouse watcher webhook weight widget window worker workflow wrapper writer zone
alpha amber anchor apple april arrow atlas autumn bamboo beacon bear birch bird blue bright bronze candle canyon cedar
cherry circle cloud cobalt copper coral crane crystal dawn deep delta desert dragon eagle early east echo ember falcon
fast feather fern fire flat forest fox frost garden ghost gold granite green harbor hawk hazel hollow honey island ivory
jade july jungle lake lantern lemon light lily lime lion little lunar magic maple marble meadow mint moon moss north nova
ocean olive onyx orange orbit otter owl paper pearl pebble pine planet plum polar prism quartz quick quiet rain raven red
river robin rocket rose ruby sage salt sand shadow sharp silent silver sky slow small smart snow solar south spark spring
star steel stone storm summer sun swift thunder tiger timber topaz tower tulip urban velvet violet wave west white wild
willow wind winter wolf wood yellow
""".split()

TECH = """
Django Flask FastAPI React Vue Angular Celery Redis Kafka Postgres SQLite MySQL GraphQL REST HTTP JSON YAML XML CSV SQL
gRPC OAuth JWT Docker Kubernetes Terraform Ansible Stripe Twilio AWS Azure Lambda Rust Python Java Kotlin Swift Go Ruby
Rails Spring Node TypeScript JavaScript CSS HTML WebSocket TLS SSH PDF Pandas NumPy PyTorch MLX CUDA Metal Prometheus
Grafana Sentry Elastic Mongo Cassandra RabbitMQ Nginx Linux Windows Android iOS Bluetooth USB UTF-8 Unicode TODO FIXME
""".split()

NOUNS = """
views models serializers tests fixtures handlers decorators endpoints routes migrations queries settings forms templates
signals tasks middleware managers validators exceptions errors imports classes functions methods constants enums helpers
hooks components reducers selectors schemas resolvers mutations callbacks listeners workers jobs queues caches locks
threads sockets streams parsers loaders builders factories adapters clients controllers services repositories plugins
commands scripts configs credentials secrets tokens permissions roles comments docstrings annotations types interfaces
traits structs macros modules packages dependencies versions timeouts retries limits logs metrics traces alerts events
messages emails templates filters formatters converters iterators generators coroutines closures lambdas loops branches
conditions assertions mocks stubs benchmarks feature-flags buttons icons menus dialogs pages headers footers cookies
redirects webhooks subscriptions invoices payments refunds orders carts customers addresses exports uploads downloads
backups snapshots indexes triggers procedures joins transactions cursors pools connections statements expressions
""".split()

SUFFIXES = """
View ViewSet Serializer Manager Handler Service Factory Builder Parser Loader Client Controller Repository Adapter Form
Model Error Exception Config Settings Mixin Middleware Validator Task Job Worker Queue Cache Store Provider Observer
Visitor Command Event Listener Context Session Request Response Engine Runner Test Base Helper Node Tree List Map Set
Reader Writer Encoder Decoder Filter Router Resolver Reducer Widget Button Dialog Page Component Hook State Schema Type
""".split()

VERBS = """
get set find load save read write parse format build make create delete update send fetch check validate compute render
run start stop open close init reset handle process convert encode decode merge split filter sort apply register resolve
is has on to use calc count list add remove push pop flush sync retry normalize sanitize extract collect dispatch
""".split()

LINKS = "with and or from to by for of in if as on at not all per into is no via then than until without".split()

EXTENSIONS = "py py py rs rs js ts tsx go java rb c h cpp md toml yaml yml json txt html css sql sh cfg ini lock proto xyz".split()
DIRS = "src app lib core api tests docs web server client backend frontend pkg internal cmd tools scripts config data models views services common accounts billing".split()
PLAIN_FILES = ["Dockerfile", "Makefile", "README.md", ".env", "pyproject.toml", "Cargo.toml", "package.json", "setup.cfg",
               "requirements.txt", ".gitignore", "LICENSE", "CHANGELOG.md", "main.py", "index.js", "lib.rs", "manage.py"]

_ONSET = "b c d f g h j k l m n p r s t v w x z br ch cl cr dr fl fr gl gr kl kr pl pr qu sc sh sk sl sn sp st str th tr tw vr wh zh".split()
_VOWEL = "a e i o u a e i o u ai au ea ee ei ia ie oa oo ou ui y".split()
_CODA = ["", "", "", "", "b", "c", "ck", "d", "f", "g", "k", "l", "ll", "m", "n", "nd", "ng", "nt", "p", "r", "rd", "rk", "rn", "rt",
         "s", "sh", "sk", "ss", "st", "t", "th", "x", "z", "lt", "mp", "nk"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def pseudo(rng: Random, syllables: int | None = None) -> str:
    """A word that nobody has written before, lower case, of one to four syllables."""
    count = syllables or rng.choice((1, 1, 2, 2, 2, 3))
    return "".join(rng.choice(_ONSET) + rng.choice(_VOWEL) + rng.choice(_CODA) for _ in range(count))


def scramble(rng: Random) -> str:
    """Letters and digits without any pattern, such as `xk9f2`."""
    alphabet = _LETTERS if rng.random() < 0.5 else _LETTERS + "0123456789"
    return rng.choice(_LETTERS) + "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 7)))


def part(rng: Random) -> str:
    """One lower-case piece of a name."""
    x = rng.random()
    if x < 0.5:
        return rng.choice(WORDS)
    if x < 0.85:
        return pseudo(rng)
    if x < 0.93:
        return scramble(rng)
    return rng.choice(VERBS)


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


def camel(rng: Random) -> str:
    """A class name such as `InvoiceLedgerView`."""
    if rng.random() < 0.12:
        return "".join(rng.choice(_LETTERS).upper() for _ in range(rng.randint(2, 4))) + _cap(part(rng))
    name = "".join(_cap(part(rng)) for _ in range(rng.choice((1, 1, 2, 2, 3))))
    if rng.random() < 0.55:
        name += rng.choice(SUFFIXES)
    elif rng.random() < 0.12:
        name += str(rng.randint(0, 99))
    return name if any(c.isupper() for c in name[1:]) else name + rng.choice(SUFFIXES)


def lower_camel(rng: Random) -> str:
    """A function name such as `loadUser`."""
    parts = [_cap(part(rng)) for _ in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.1:
        parts[-1:] = [_cap(rng.choice(LINKS)), parts[-1]]
    return rng.choice((rng.choice(VERBS), part(rng))) + "".join(parts)


def snake(rng: Random) -> str:
    """A function name such as `parse_config`."""
    parts = [part(rng) for _ in range(rng.choice((2, 2, 2, 3, 3, 4)))]
    if rng.random() < 0.5:
        parts[0] = rng.choice(VERBS)
    if rng.random() < 0.18:
        parts.insert(rng.randint(1, len(parts) - 1), rng.choice(LINKS))
    name = "_".join(parts)
    x = rng.random()
    if x < 0.06:
        return "_" + name
    if x < 0.10:
        return "__" + part(rng) + "__"
    if x < 0.16:
        return f"{name}_{rng.randint(0, 99)}"
    return name


def constant(rng: Random) -> str:
    """An upper-case name such as `MAX_RETRY_COUNT`."""
    return "_".join(part(rng) for _ in range(rng.choice((2, 2, 3)))).upper()


def identifier(rng: Random) -> str:
    """A name of something defined in code."""
    x = rng.random()
    if x < 0.36:
        return camel(rng)
    if x < 0.70:
        return snake(rng)
    if x < 0.78:
        return lower_camel(rng)
    if x < 0.85:
        return constant(rng)
    if x < 0.91:
        return rng.choice((camel(rng), part(rng), snake(rng))) + "." + rng.choice((snake(rng), lower_camel(rng), part(rng)))
    if x < 0.94:
        return camel(rng) + "::" + rng.choice((snake(rng), part(rng)))
    if x < 0.97:
        return rng.choice((snake(rng), lower_camel(rng))) + "()"
    return "@" + rng.choice((snake(rng), part(rng), part(rng) + "." + part(rng)))


def directory(rng: Random) -> str:
    """A folder such as `src/billing`."""
    first = rng.choice(DIRS) if rng.random() < 0.5 else part(rng)
    parts = [first] + [rng.choice((rng.choice(DIRS), part(rng), part(rng))) for _ in range(rng.choice((0, 1, 1, 2)))]
    text = "/".join(parts)
    x = rng.random()
    if x < 0.2:
        return text + "/"
    if x < 0.25:
        return "./" + text
    if x < 0.28:
        return "/" + text
    return text


def path(rng: Random) -> str:
    """A file such as `src/app/main.py`."""
    x = rng.random()
    if x < 0.07:
        return rng.choice(PLAIN_FILES)
    stem = rng.choice((part(rng), part(rng), snake(rng), part(rng) + "-" + part(rng), camel(rng), lower_camel(rng)))
    file = stem + "." + rng.choice(EXTENSIONS)
    if x < 0.12:
        file = rng.choice(PLAIN_FILES)
    if x > 0.82:
        return file
    return directory(rng).rstrip("/") + "/" + file


def phrase(rng: Random) -> str:
    """What a search is for, in words, such as `Django views` or `unused imports`."""
    noun = rng.choice(NOUNS) if rng.random() < 0.75 else pseudo(rng) + "s"
    x = rng.random()
    if x < 0.28:
        return rng.choice(TECH) + " " + noun
    if x < 0.58:
        return part(rng) + " " + noun
    if x < 0.68:
        return _cap(pseudo(rng)) + " " + noun
    if x < 0.78:
        return part(rng) + " " + part(rng) + " " + noun
    if x < 0.84:
        return rng.choice(("unused", "slow", "async", "deprecated", "missing", "broken", "hard-coded", "public", "nested")) + " " + noun
    if x < 0.89:
        kind = rng.choice((noun, noun, rng.choice(TECH) + " " + noun))
        return kind + rng.choice((" that return ", " with ", " without ", " for ", " about ", " about ", " on ", " from ", " of ", " that use ")) + rng.choice((part(rng), part(rng), part(rng) + "s", pseudo(rng) + "s"))
    if x < 0.92:
        return rng.choice((camel(rng), constant(rng))) + " " + noun
    return noun


def symbol_like(rng: Random) -> str:
    """Something written in code that is searched for: a keyword pair, a call, a name or a literal."""
    x = rng.random()
    if x < 0.55:
        return identifier(rng)
    if x < 0.68:
        return part(rng) + rng.choice("/-.:|") + part(rng)
    if x < 0.76:
        return rng.choice(("try/except", "async def", "yield from", "with open", "if/else", "lambda", "global", "goto", "unsafe",
                           "print(", "eval(", "os.environ", "sys.exit", "time.sleep", "malloc/free", "import *", "SELECT *", "await"))
    if x < 0.84:
        return rng.choice(TECH)
    if x < 0.92:
        return scramble(rng) if rng.random() < 0.5 else part(rng)
    return part(rng) + " " + part(rng)


def proper(rng: Random) -> str:
    """The name of a place, a person or a thing."""
    cities = ("Paris", "Tokyo", "London", "Berlin", "Madrid", "Oslo", "Lima", "Cairo", "New York", "San Francisco", "Rome",
              "Vienna", "Dublin", "Seoul", "Delhi", "Boston", "Zurich", "Prague", "Lisbon", "Kyoto", "Alice", "Bob", "Kim", "Maria")
    x = rng.random()
    if x < 0.35:
        return rng.choice(cities)
    if x < 0.8:
        return _cap(pseudo(rng))
    if x < 0.9:
        return _cap(pseudo(rng)) + " " + _cap(pseudo(rng))
    return scramble(rng) + (str(rng.randint(1, 999)) if rng.random() < 0.5 else "")
