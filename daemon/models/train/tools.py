"""The tools that dialogues offer, what they would have answered, and the sentence that reports an answer.

Tools of one family do the same under different names, so that the pair reads names and parameters from the list it
is given. Which question wants which tool is the business of `intents.py`.
"""

from dataclasses import dataclass
from random import Random

from names import WORDS, _cap, camel, directory, part, path, proper, pseudo, snake


@dataclass(frozen=True)
class Tool:
    """A tool as offered: its parameters as (name, JSON type, required)."""

    name: str
    params: tuple[tuple[str, str, bool], ...]
    family: str

    def arguments(self, *values):
        """The required parameters in order, bound to `values`."""
        return dict(zip([p[0] for p in self.params if p[2]], values))


# family -> (the usual form, other forms)
FAMILIES = {
    "search": ("search_code pattern", "grep pattern|search query|code_search query|ripgrep pattern|search_codebase query|"
               "find_in_files text|search_files pattern|grep_code regex|search_repo query|find_usages text|text_search term"),
    "symbol": ("find_symbol name", "get_definition symbol|lookup_symbol name|goto_definition symbol|show_symbol name|"
               "find_definition name|locate_symbol identifier|get_symbol symbol_name|read_symbol name"),
    "read": ("read_file path", "open_file path|cat file|view_file path|get_file filename|load_file file_path|show_file path|"
             "read_file filename|fetch_file file"),
    "list": ("list_files directory", "ls path|list_dir path|list_directory directory|list_folder folder|list_files path|"
             "show_directory dir|browse directory"),
    "tests": ("run_tests path", "test path|pytest target|execute_tests path|run_test_suite target|run_tests target"),
}
CODE = tuple(FAMILIES)
STANDARD = ("search", "symbol", "read", "list")


def code_tool(rng: Random, family: str, usual: float = 0.55) -> Tool:
    """A tool of a family under its usual name or another one."""
    first, others = FAMILIES[family]
    name, param = (first if rng.random() < usual else rng.choice(others.split("|"))).split()
    if usual < 1 and rng.random() < 0.06:
        param = rng.choice((pseudo(rng, 2), "arg", "value", "input", "q", "target"))
    params = [(param, "string", True)]
    if usual < 1 and rng.random() < 0.10:
        params.append(rng.choice((("limit", "integer", False), ("max_results", "integer", False), ("encoding", "string", False),
                                  ("recursive", "boolean", False), ("case_sensitive", "boolean", False))))
    return Tool(name, tuple(params), family)


# name | parameters | questions | kind of value | label of the report
NAMED = """
get_weather|city|What is the weather in {x}?;What's the weather like in {x}?;How is the weather in {x} today?;Is it raining in {x}?;Tell me the weather in {x};weather in {x}?|place|The weather in {x}
get_forecast|location|What is the forecast for {x}?;Will it rain in {x} tomorrow?;Give me the forecast for {x}|place|The forecast for {x}
get_time|city|What time is it in {x}?;What's the time in {x}?;Tell me the current time in {x};current time in {x}?|place|The time in {x}
get_temperature|city|What is the temperature in {x}?;How warm is it in {x}?;How cold is it in {x} right now?|place|The temperature in {x}
lookup_user|name|Who is the user {x}?;Look up the user {x};Look up {x};Find the user {x};Which user is {x}?|person|The user {x}
get_user|user_id|Get user {x};Fetch the user with id {x};Show me user {x}|id|User {x}
get_order|order_id|What is the status of order {x}?;Look up order {x};Where is my order {x}?;Show me order {x}|id|Order {x}
get_stock_price|symbol|What is the stock price of {x}?;How much is {x} stock?;What is {x} trading at?|ticker|The price of {x}
get_population|country|What is the population of {x}?;How many people live in {x}?|place|The population of {x}
get_capital|country|What is the capital of {x}?;Which city is the capital of {x}?|place|The capital of {x}
web_search|query|Search the web for {x};Look up {x} on the web;Google {x}|topic|The web on {x}
create_ticket|title|Create a ticket called {x};Open a ticket titled {x};File a ticket for {x}|topic|The ticket {x}
delete_file|path|Delete {x};Delete the file {x};Remove {x} from disk|file|Deleting {x}
count_lines|path|How many lines does {x} have?;Count the lines in {x};How long is {x}?|file|The lines of {x}
git_log|path|Who changed {x} last?;Show the history of {x};Show the git log of {x}|file|The history of {x}
git_blame|path|Blame {x};Who wrote {x}?|file|The authors of {x}
run_command|command|Run `{x}`;Execute the command `{x}`;Run the command {x}|command|The command {x}
get_joke|topic|Tell me a joke about {x};Make a joke about {x}|topic|A joke about {x}
translate|text|Translate {x};Translate the text {x}|topic|The translation of {x}
roll_dice|sides:integer|Roll a dice with {x} sides;Roll a {x}-sided die|small|The roll of {x} sides
factorial|n:integer|What is the factorial of {x}?;Compute the factorial of {x}|small|The factorial of {x}
is_prime|number:integer|Is {x} a prime number?;Is {x} prime?|int|Whether {x} is prime
square_root|x:number|What is the square root of {x}?;Compute the square root of {x}|int|The square root of {x}
add|a:integer,b:integer|What is {x} plus {y}?;Add {x} and {y};What is {x} + {y}?;Sum {x} and {y}|int|The sum of {x} and {y}
multiply|a:integer,b:integer|What is {x} times {y}?;Multiply {x} by {y};What is {x} * {y}?|int|The product of {x} and {y}
subtract|a:integer,b:integer|What is {x} minus {y}?;What is {x} - {y}?|int|The difference of {x} and {y}
distance|origin,destination|How far is it from {x} to {y}?;What is the distance from {x} to {y}?;How far is {x} from {y}?|place|From {x} to {y}
book_flight|origin,destination|Book a flight from {x} to {y};I need a flight from {x} to {y}|place|The flight from {x} to {y}
rename_file|old,new|Rename {x} to {y};Rename the file {x} to {y}|file|Renaming {x} to {y}
send_message|to,text|Send {x} the message {y};Tell {x} that {y}|message|The message to {x}
"""
VERBS = ("get", "get", "get", "lookup", "fetch", "find", "check", "query")
KEYS = ("name", "id", "city", "key", "target", "item", "user", "query", "customer", "project", "value", "code")
# What people add to a noun when they speak: the tool is `get_phone`, the question is about the phone number.
SPOKEN = ("address", "number", "name", "status", "level", "code", "date", "list", "id", "count")
ACTIONS = ("open", "close", "start", "stop", "create", "delete", "lock", "unlock", "enable", "disable", "cancel", "approve", "archive", "restore", "pause", "resume",
           "print", "export", "import", "assign", "publish", "update", "check", "mute", "sync")
DO = ("{v} {n} {x}", "{v} the {n} {x}", "{v} the {n} of {x}", "{v} the {n} for {x}", "{v} {x}'s {n}", "Please {v} the {n} {x}", "I want to {v} {n} {x}", "Can you {v} the {n} {x}?")
ASKS = ("What is the {n} of {x}?", "What's the {n} of {x}?", "Get the {n} of {x}", "Get the {n} for {x}", "What is the {n} for {x}?",
        "Check the {n} of {x}", "Look up the {n} of {x}", "Tell me the {n} of {x}", "Show me the {n} of {x}", "Which {n} does {x} have?",
        "Fetch the {n} for {x}", "I need the {n} of {x}", "Do you know the {n} of {x}?", "{n} of {x}?")


@dataclass(frozen=True)
class Generic:
    """A tool outside of code work, with its questions and the label of its report."""

    tool: Tool
    asks: tuple[str, ...]
    kind: str
    label: str


def _params(text: str):
    out = []
    for item in text.split(","):
        name, _, kind = item.partition(":")
        out.append((name, kind or "string", True))
    return tuple(out)


GENERICS = []
for _line in NAMED.strip().splitlines():
    _n, _p, _q, _k, _l = _line.split("|")
    GENERICS.append(Generic(Tool(_n, _params(_p), "generic"), tuple(_q.split(";")), _k, _l))


def _word(rng: Random) -> str:
    """A piece of a tool's or parameter's name: as a rule a word that exists."""
    return rng.choice(WORDS) if rng.random() < 0.75 else part(rng)


def _key(rng: Random) -> str:
    """A parameter's name: a usual one, any word, or one with `_id` and the like behind it."""
    x = rng.random()
    if x < 0.5:
        return rng.choice(KEYS)
    word = _word(rng)
    return word if x < 0.8 else word + rng.choice(("_id", "_id", "_name", "_key", "_code"))


def _teller(rng: Random, verb: str, noun: list[str], key: str, kind: str) -> Generic:
    """A made-up tool that tells one thing about a value."""
    spoken = " ".join(noun) + (" " + rng.choice(SPOKEN) if rng.random() < 0.15 else "")
    return Generic(Tool(verb + "_" + "_".join(noun), ((key, "string", True),), "generic"), tuple(a.replace("{n}", spoken) for a in ASKS), kind, "The " + spoken + " of {x}")


def _doer(action: str, noun: str, key: str, kind: str) -> Generic:
    """A made-up tool that does something to a value."""
    asks = tuple(a.replace("{v}", action).replace("{n}", noun) for a in DO)
    return Generic(Tool(action + "_" + noun, ((key, "string", True),), "generic"), tuple(a[0].upper() + a[1:] for a in asks), kind, action.capitalize() + " " + noun + " {x}")


def generic(rng: Random) -> Generic:
    """A named generic tool, or one that is made up around a noun."""
    if rng.random() < 0.5:
        g = rng.choice(GENERICS)
        if rng.random() < 0.12:
            first = (_key(rng), *g.tool.params[0][1:])
            if first[0] not in [p[0] for p in g.tool.params[1:]]:
                g = Generic(Tool(g.tool.name, (first, *g.tool.params[1:]), "generic"), g.asks, g.kind, g.label)
        return g
    kind = rng.choice(("place", "id", "person", "topic"))
    if rng.random() < 0.2:
        return _doer(rng.choice(ACTIONS), part(rng), _key(rng), kind)
    return _teller(rng, rng.choice(VERBS), [part(rng) for _ in range(rng.choice((1, 1, 2)))], _key(rng), kind)


def alike(rng: Random) -> list[Generic]:
    """Two or three tools that differ in one word, or that take the same kind of thing."""
    count, x = rng.choice((2, 2, 2, 3)), rng.random()
    key, kind = _key(rng), rng.choice(("place", "id", "person", "topic"))
    if x < 0.5:
        verb, same = rng.choice(VERBS), [_word(rng)] if rng.random() < 0.25 else []
        found = [_teller(rng, verb, [_word(rng)] + same, key, kind) for _ in range(count)]
    elif x < 0.7:
        noun = _word(rng)
        found = [_doer(a, noun, key, kind) for a in rng.sample(ACTIONS, count)]
    elif x < 0.8:
        noun = [_word(rng)]
        found = [_teller(rng, rng.choice(VERBS[:3]), noun, key, kind), _doer(rng.choice(ACTIONS), noun[0], key, kind)]
    else:
        first = rng.choice(GENERICS)
        found = rng.sample([g for g in GENERICS if g.kind == first.kind], 2) if sum(g.kind == first.kind for g in GENERICS) > 1 else [first]
    return found if len({g.tool.name for g in found}) == len(found) else alike(rng)


def generic_value(rng: Random, kind: str, second: bool = False):
    """A value that a question may name, of the kind that a tool takes."""
    if kind == "int":
        return rng.randint(0, 10 ** rng.choice((1, 2, 3, 4)))
    if kind == "small":
        return rng.randint(2, 100)
    if kind == "file":
        return path(rng)
    if kind == "id":
        return rng.choice((str(rng.randint(1, 99999)), f"{part(rng)[:3].upper()}-{rng.randint(1, 9999)}", part(rng) + str(rng.randint(1, 99))))
    if kind == "ticker":
        return "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(2, 5)))
    if kind == "topic":
        return rng.choice((part(rng) + " " + part(rng), part(rng), proper(rng)))
    if kind == "command":
        return rng.choice(("ls", "git", "cargo", "npm", "make", part(rng))) + " " + rng.choice((part(rng), "-" + rng.choice("abcdefl"), "--" + part(rng)))
    if kind == "message" and second:
        return part(rng) + " " + rng.choice(("is late", "is done", "is ready", "failed", "can wait", "has moved")) if rng.random() < 0.7 else part(rng)
    return proper(rng)


def generic_result(rng: Random) -> str:
    """What a generic tool might answer: a word, a number, a sentence or JSON."""
    x = rng.random()
    if x < 0.3:
        return f"{rng.choice(('sunny', 'cloudy', 'rain', 'snow', 'clear', 'windy', pseudo(rng)))}, {rng.randint(-10, 40)} C"
    if x < 0.5:
        return str(rng.choice((rng.randint(0, 9999), round(rng.random() * 100, 2), f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}")))
    if x < 0.75:
        return rng.choice(("ok", "done", "active", "shipped", "not found", part(rng), part(rng) + " " + part(rng), proper(rng)))
    if x < 0.9:
        return "{\"" + part(rng) + "\": " + str(rng.choice((rng.randint(0, 99), '"' + part(rng) + '"'))) + "}"
    return f"{proper(rng)} is {part(rng)} and {part(rng)}"


def _code_line(rng: Random, about: str) -> str:
    """A line of code that may mention what was searched for."""
    word = about if rng.random() < 0.35 else (rng.choice(about.split()) if rng.random() < 0.3 else snake(rng))
    word = word.strip("`'\"@()").replace(" ", "_") or "x"
    x = rng.random()
    if x < 0.3:
        return f"class {camel(rng)}({rng.choice((camel(rng), 'View', 'ModelSerializer', 'object', 'Base'))}):"
    if x < 0.6:
        return f"{rng.choice(('def', 'async def', 'fn', 'function', 'func'))} {word}({rng.choice(('', 'self', 'request', part(rng), 'self, ' + part(rng)))}):"
    if x < 0.75:
        return f"{word} = {snake(rng)}({part(rng)})"
    if x < 0.85:
        return f"from {part(rng)} import {word}"
    if x < 0.93:
        return f"return {rng.choice(('await ', '', 'self.'))}{word}({part(rng)})"
    return f"# {word} {part(rng)} {part(rng)}"


def _definition(rng: Random, name: str) -> str:
    short = name.strip("@`'\"").removesuffix("()").replace("::", ".").split(".")[-1]
    if short[:1].isupper() and not short.isupper():
        return rng.choice((f"class {short}({camel(rng)}):", f"class {short}:", f"pub struct {short} {{", f"class {short}({rng.choice(('ModelSerializer', 'View', 'Model'))}):"))
    if short.isupper():
        return f"{short} = {rng.randint(0, 500)}"
    return rng.choice((f"def {short}({part(rng)}):", f"def {short}(self):", f"fn {short}() {{", f"async def {short}({part(rng)}, {part(rng)}):"))


def result_and_report(rng: Random, tool: Tool, args: dict, label: str = "") -> tuple[str, str]:
    """What the tool answers, and the sentence that tells the user."""
    what = str(next(iter(args.values()), ""))
    if tool.family == "generic":
        result = generic_result(rng)
        return result, f"{label}: {result}."
    if rng.random() < 0.05:
        error = rng.choice(("error: no such file", "error: permission denied", "error: " + part(rng) + " failed", "Error: timed out"))
        return error, f"The tool could not do it: {error}."
    if tool.family in ("search", "symbol"):
        if rng.random() < 0.08:
            return rng.choice(("no matches", "(no matches)", "No results found.", "[]", "nothing found", f"no matches for {what}")), f"There are no matches for {what}."
        return _matches(rng, tool.family, what)
    if tool.family == "read":
        lines = [rng.choice(("import " + part(rng), "# " + part(rng) + " " + part(rng), "from " + part(rng) + " import " + camel(rng), _code_line(rng, part(rng))))]
        lines += [("    " if rng.random() < 0.4 else "") + _code_line(rng, part(rng)) for _ in range(rng.choice((0, 0, 1, 1, 2, 2, 3, 4, 6)))]
        return "\n".join(lines), f"{what} begins with `{lines[0]}`."
    if tool.family == "list":
        entries = [rng.choice((path(rng).split("/")[-1], path(rng), part(rng) + "/")) for _ in range(rng.choice((1, 2, 3, 3, 4, 5, 6, 8)))]
        text = rng.choice(("\n", "\n", "\n", ", ")).join(entries)
        if len(entries) == 1:
            return text, f"{what} contains {entries[0]}."
        return text, f"{what} contains {entries[0]}, {entries[1]}" + (" and more." if len(entries) > 2 else ".")
    passed, failed = rng.randint(0, 99), rng.choice((0, 0, 0, 1, 2, 7))
    result = rng.choice((f"{passed} passed, {failed} failed", f"{passed} passed in {rng.randint(0, 9)}.{rng.randint(0, 99):02}s", "all tests passed", f"test result: ok. {passed} passed; {failed} failed"))
    return result, f"The tests in {what} ran: {result}."


def _matches(rng: Random, family: str, what: str) -> tuple[str, str]:
    many = family == "search"
    count = rng.choice((1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, rng.randint(7, 12))) if many else 1
    rows, home = [], directory(rng).rstrip("/")
    for _ in range(count):
        file = path(rng) if rng.random() < 0.5 else home + "/" + part(rng) + rng.choice((".py", ".rs", ".ts", ".py"))
        code = _code_line(rng, what) if many else _definition(rng, what)
        rows.append((file, str(rng.randint(1, 999)), code))
    file, line, code = rows[0]
    form = rng.random()
    if form < 0.10:
        text = "\n".join(f"{f}:{n}" for f, n, _ in rows)
        found = f"{file}, line {line}."
    elif form < 0.18:
        text = "\n".join(f for f, _, _ in rows)
        found = f"{file}."
    else:
        text = "\n".join(f"{f}:{n}: {c}" for f, n, c in rows)
        found = f"{file}, line {line}: `{code}`."
        if not many and rng.random() < 0.5:
            text += "".join("\n    " + _code_line(rng, what) for _ in range(rng.randint(1, 6)))
    if not many:
        return text, f"{what} is defined in {found}"
    if rng.random() < 0.08:
        text = f"{count} matches\n" + text
    if count == 1:
        return text, f"I found one match for {what} in {found}"
    return text, f"I found several matches for {what}. The first is in {found}"


__all__ = ["CODE", "FAMILIES", "GENERICS", "Generic", "STANDARD", "Tool", "_cap", "alike", "code_tool", "generic", "generic_value", "result_and_report"]
