"""Questions: how people ask for things in code, in many phrasings composed from parts.

Each function returns the text and what the right call takes from it, word for word.
"""

from random import Random

from concepts import bare, concept, partner, KNOWN
from names import directory, identifier, part, path, phrase, symbol_like, camel, snake

WHERE = ("", "", "", " in the codebase", " in the code base", " in this codebase", " in the repo", " in this repository", " in our code", " in the project",
         " in this project", " in our project", " across the codebase", " across the repo", " in the source", " in the source tree", " in the code",
         " anywhere in the code", " across the codebase", " across this repository", " across all files", " across the whole project", " throughout the repo", " here", " throughout the project", " in my code", " in this code")
LEAD = ("", "", "", "", "", "", "", "Please ", "Can you ", "Could you ", "Could you please ", "Can you please ", "I want you to ", "I need you to ",
        "Would you ", "Hey, ", "Hi, can you ", "Now ", "Next, ", "Go and ", "Help me ", "First, ", "Quickly ", "I'd like you to ", "Let's ", "OK, ")
TAIL = ("", "", "", "", "", "", "", "", "", " please", " for me", ", please", " now", ", thanks", " if you can")
FIND = ("find", "find", "find", "search for", "look for", "locate", "list", "show me", "show", "get", "give me", "identify", "collect", "track down", "scan for", "hunt down",
        "grep for", "search the code for", "look up", "dig up", "point me to", "fetch", "enumerate", "spot", "check for", "pull up")
ALL = ("all ", "all ", "all the ", "every ", "any ", "the ", "", "", "all of the ", "each of the ", "some ")
USES = ("uses of", "usages of", "usage of", "references to", "calls to", "callers of", "occurrences of", "mentions of", "imports of", "instances of", "places that use",
        "places where we use", "places where we call", "code that uses", "files that import", "files that use", "files that mention", "files containing", "lines with",
        "subclasses of", "classes that inherit from", "functions that call", "everything that uses", "code that calls", "files with", "spots that touch", "modules that import")
KINDS = ("class", "function", "method", "implementation", "definition", "struct", "code", "source", "source code", "type", "constant", "variable", "interface", "body",
         "declaration", "trait", "enum", "module", "component", "model", "view", "handler", "decorator", "helper", "signature", "constructor")


def dress(rng: Random, text: str, where: bool = True) -> str:
    """Adds the polite frame, the place and the punctuation around an imperative."""
    lead = rng.choice(LEAD)
    text = (lead + text) if lead else text[:1].upper() + text[1:]
    if where:
        text += rng.choice(WHERE)
    text += rng.choice(TAIL)
    if lead.startswith(("Can", "Could", "Would", "Hi")):
        text += rng.choice(("?", "?", ""))
    else:
        text += rng.choice(("", "", "", ".", "!" if rng.random() < 0.2 else ""))
    return finish(rng, text)


def finish(rng: Random, text: str) -> str:
    """Now and then a small first letter or a missing question mark, as people type."""
    x = rng.random()
    if x < 0.08 and text[:2].istitle() and text[1:2].islower():
        return text[0].lower() + text[1:]
    if x < 0.12 and text.endswith("?"):
        return text[:-1]
    return text


def quoted(rng: Random, name: str, chance: float = 0.14) -> str:
    """The name, sometimes in backticks or quotes, which are no part of the argument."""
    if rng.random() < chance and not any(c in name for c in "`'\""):
        mark = rng.choice(("`", "`", "'", '"'))
        return mark + name + mark
    return name


def search(rng: Random) -> tuple[str, str]:
    """Wants a search; returns (question, pattern)."""
    x = rng.random()
    if x < 0.36:
        p = phrase(rng)
        return dress(rng, rng.choice(FIND) + " " + rng.choice(ALL) + quoted(rng, p, 0.05)), p
    if x < 0.62:
        p = symbol_like(rng)
        return dress(rng, rng.choice(FIND) + " " + rng.choice(("all ", "all ", "all the ", "the ", "", "every ")) + rng.choice(USES) + " " + quoted(rng, p)), p
    if x < 0.72:
        p = symbol_like(rng) if rng.random() < 0.6 else phrase(rng)
        verb = rng.choice(("search for", "grep for", "grep", "look for", "search the code for", "search", "do a search for", "run a search for", "scan the repo for", "search the codebase for", "search everything for"))
        return dress(rng, verb + " " + quoted(rng, p, 0.35)), p
    p = phrase(rng) if rng.random() < 0.6 else symbol_like(rng)
    q = quoted(rng, p)
    place = rng.choice(WHERE)
    if x < 0.86:
        s = symbol_like(rng)
        qs = quoted(rng, s)
        form = rng.choice(("Where is {q} used{w}?", "Where do we use {q}{w}?", "Who calls {q}?", "What calls {q}{w}?", "Which files use {q}?", "Which files import {q}?",
                           "Which files mention {q}?", "Where is {q} called{w}?", "Where are we calling {q}?", "Is {q} used anywhere{w}?", "Do we use {q} anywhere?",
                           "How often is {q} used{w}?", "What uses {q}{w}?", "Which modules depend on {q}?", "Which classes inherit from {q}?", "Where does {q} appear{w}?",
                           "Which functions call {q}?", "Where do we import {q}?", "Who uses {q}{w}?", "Which tests cover {q}?", "Where is {q} referenced{w}?",
                           "Does anything use {q}{w}?", "Where does {q} get called?", "In which files does {q} occur?", "Where is {q} imported?"))
        return finish(rng, form.format(q=qs, w=place)), s
    form = rng.choice(("Where are the {q}{w}?", "Where are our {q}?", "Do we have any {q}{w}?", "Are there any {q}{w}?", "Which files contain {q}?", "Where do we keep the {q}?",
                       "What {q} do we have{w}?", "What {q} are there{w}?", "How many {q} are there{w}?", "Which {q} do we have?", "I'm looking for {q}{w}", "I am looking for the {q}",
                       "Where can I find {q}{w}?", "Where can I find the {q}?", "Where do we handle {q}?", "Where do we define {q}{w}?", "I need all {q}{w}", "I need to see all {q}{w}",
                       "Any {q}{w}?", "How many {q} do we have{w}?", "Does this project have {q}?", "Is there any {q}{w}?"))
    return finish(rng, form.format(q=q, w=place)), p


def search_odd(rng: Random) -> tuple[str, str]:
    """Wants a search for something that looks like a path or a name, or for several words; returns (question, pattern)."""
    x = rng.random()
    if x < 0.4:
        p = part(rng) + rng.choice(("/", "/", "/", "::", ".", "!/", "-")) + part(rng)
    elif x < 0.6:
        p = symbol_like(rng)
    else:
        p = phrase(rng)
        if rng.random() < 0.5:
            return finish(rng, rng.choice(("Find all {p}", "Show me all {p}", "Where are the {p}?", "Find all {p} in the codebase", "List all {p}", "Are there any {p} in this project?", "Search for {p}")).format(p=p)), p
    if rng.random() < 0.3:
        return finish(rng, rng.choice(("Search for {p}", "Grep for {p}", "Search for uses of {p}", "Which files import {p}?", "Who calls {p}?", "Where do we use {p}?", "Where is {p} used?")).format(p=quoted(rng, p))), p
    verb = rng.choice(("Find all", "Find all", "find", "Show me all", "Show", "Find", "List all", "Locate the", "Find all the", "Search for", "Look for all", "I need all"))
    return finish(rng, f"{verb} {rng.choice(USES[:9])} {quoted(rng, p)}{rng.choice(WHERE)}"), p


def symbol(rng: Random) -> tuple[str, str]:
    """Wants the definition of something; returns (question, name)."""
    n = identifier(rng) if rng.random() < 0.87 else part(rng)
    if n.islower() and rng.random() < 0.3:
        n = n[0].upper() + n[1:]
    simple = n[1:].islower() and n.isalnum()
    q, k, place = quoted(rng, n), rng.choice(KINDS), rng.choice(WHERE)
    x = rng.random()
    show = rng.choice(("show me", "show", "find", "open", "give me", "get", "display", "print", "pull up", "let me see", "I want to see", "look up", "go to", "jump to", "locate", "bring up", "fetch"))
    if show.startswith(("I ", "let")):
        show = "show me"
    if x < 0.42:
        return dress(rng, f"{show} the {q} {k}", rng.random() < 0.3), n
    if x < 0.62:
        of = rng.choice(("definition of", "implementation of", "source of", "code of", "code for", "source code of", "declaration of", "body of", "signature of", "implementation for",
                         "class", "function", "method", "struct", "constant", "type", "code behind", "definition for"))
        return dress(rng, f"{show} the {of} {q}", rng.random() < 0.3), n
    if x < 0.68 and not simple:
        return dress(rng, f"{show} {q}", rng.random() < 0.3), n
    form = rng.choice(("Where is {q} defined{w}?", "Where is {q} implemented{w}?", "Where is {q} declared?", "Where's {q} defined?", "Where do we define {q}?", "How is {q} implemented{w}?", "How is {q} implemented?", "How is the {q} {k} implemented?",
                       "What does {q} do?", "What does the {q} {k} do?", "How does {q} work?", "How does our {q} {k} work?", "What does {q} look like?", "Where does {q} live?",
                       "In which file is {q} defined?", "Which file defines {q}?", "I want to see the {q} {k}", "I need to see {q}", "Let me see the {q} {k}", "Take me to {q}", "What is in {q}?",
                       "What does {q} return?", "Explain what {q} does", "Explain the {q} {k}{w}", "What arguments does {q} take?", "I'd like to see the implementation of {q}", "Where can I find the {q} {k}?",
                       "Where is the {q} {k}{w}?", "Where is the {k} {q}?", "Which module has the {q} {k}?", "I want to read the {q} {k}", "What's the implementation of {q}?", "How did we implement {q}?",
                       "Show me how {q} is implemented{w}", "Show me how {q} works", "Show me what {q} does", "Tell me how {q} is implemented", "Show me how {q} is defined", "Let me see how {q} works", "Can you show me how {q} is implemented?", "Tell me what {q} does",
                       "What does {q} do?", "what does {q} do", "Show me where {q} is defined{w}", "See how {q} is built"))
    if simple and "{k}" not in form:
        form = rng.choice(("Where is {q} defined{w}?", "Where is the {q} {k}{w}?", "In which file is {q} defined?", "Where is the {k} {q} defined?"))
    return finish(rng, form.format(q=q, k=k, w=place)), n


def read(rng: Random) -> tuple[str, str]:
    """Wants a file; returns (question, path)."""
    p = path(rng)
    q = quoted(rng, p)
    if rng.random() < 0.62:
        verb = rng.choice(("read", "read", "open", "show me", "show", "print", "display", "cat", "view", "load", "give me", "let me see", "fetch", "dump", "look at", "look into", "check", "summarize", "summarise",
                           "go through", "have a look at", "explain", "review", "inspect", "get"))
        noun = rng.choice(("", "", "", "the file ", "the contents of ", "the content of ", "what is in ", "all of ", "the source of ", "the whole of ", "the text of "))
        if verb in ("look at", "look into", "have a look at", "explain", "go through", "check", "inspect", "review") and noun == "what is in ":
            noun = ""
        return dress(rng, verb + " " + noun + q + (" file" if not noun and rng.random() < 0.08 else ""), False), p
    form = rng.choice(("What is in {q}?", "What's in {q}?", "What does {q} contain?", "What's inside {q}?", "What is inside the file {q}?", "What does the file {q} say?", "What does {q} look like?",
                       "I want to read {q}", "I need to see {q}", "What do we have in {q}?", "Can I see {q}?", "How does {q} start?", "Which imports are in {q}?", "What is the content of {q}?",
                       "What are the contents of {q}?", "What is written in {q}?", "Let me see {q}", "Let me read {q}", "What does {q} do?", "Tell me what {q} says", "How does {q} begin?"))
    return finish(rng, form.format(q=q)), p


def listing(rng: Random) -> tuple[str, str]:
    """Wants a folder's entries; returns (question, directory)."""
    d = directory(rng) if rng.random() < 0.85 else part(rng)
    q = quoted(rng, d)
    if rng.random() < 0.6:
        verb = rng.choice(("list", "list", "show me", "show", "give me", "print", "get", "display", "see"))
        noun = rng.choice(("the files in", "all files in", "files in", "the files under", "everything in", "the contents of", "what is in the directory", "the directory", "the folder", "all the files inside", "every file in", "the modules in",
                           "all files under", "the files of", "the files inside", "the content of the folder", "the entries of"))
        return dress(rng, f"{verb} {noun} {q}" + (rng.choice((" directory", " folder")) if "in" == noun.split()[-1] and rng.random() < 0.2 else ""), False), d
    form = rng.choice(("What files are in {q}?", "Which files are in {q}?", "What files are there in {q}?", "What is in the {q} directory?", "What's in the {q} folder?", "Which modules does {q} contain?", "What is in the folder {q}?",
                       "What's in the directory {q}?", "How many files are in {q}?", "What does the {q} folder contain?", "Which files live in {q}?", "ls {q}", "What files does {q} have?", "What files do we have in {q}?",
                       "Which files are under {q}?", "What does the {q} directory hold?"))
    return finish(rng, form.format(q=q)), d


def tests(rng: Random) -> tuple[str, str]:
    """Wants tests run; returns (question, path)."""
    p = rng.choice((path(rng), directory(rng), directory(rng)))
    q = quoted(rng, p)
    if rng.random() < 0.75:
        return dress(rng, rng.choice(("run the tests in {q}", "run tests in {q}", "run all tests in {q}", "run {q} tests", "test {q}", "execute the tests in {q}", "run the tests of {q}", "run the test file {q}", "run the tests under {q}",
                                      "rerun the tests in {q}", "run the test suite in {q}", "run the unit tests in {q}", "run pytest on {q}", "start the tests in {q}")).format(q=q), False), p
    return finish(rng, rng.choice(("Do the tests in {q} pass?", "Are the tests in {q} green?", "Do the {q} tests pass?", "Does {q} pass its tests?", "Are the tests in {q} passing?", "Which tests fail in {q}?")).format(q=q)), p


def _spoken(rng: Random, name: str) -> str:
    x = rng.random()
    if name != bare(name) and x < 0.25:
        return bare(name)
    if name.startswith(("a ", "an ")) and x < 0.4 and not name.endswith(("y", "s", "x", "h")):
        return bare(name) + "s"
    if x > 0.9 and bare(name)[:1].islower():
        return name.title().replace("The ", "the ").replace("'S", "'s") if name == bare(name) else name
    return name


def single_concept(rng: Random) -> tuple[str, str, bool, bool]:
    """Asks about one concept; returns (question, concept, asks why, wants one sentence)."""
    c = concept(rng)
    s = _spoken(rng, c)
    b = s if rng.random() < 0.5 else bare(s)
    be = "are" if s.endswith("s") and not s.endswith("ss") and c.startswith(("a ", "an ")) else "is"
    x = rng.random()
    if x < 0.40:
        form = rng.choice(("What {be} {s}?", "What {be} {s}?", "What {be} {s}?", "what {be} {s}", "What exactly {be} {s}?", "What's {s}?", "What {be} {s} in programming?", "So what {be} {s}?", "What {be} {s} in simple terms?",
                           "What {be} meant by {s}?", "What does {s} mean?", "What does the term {s} mean?", "What do people mean by {s}?", "Tell me what {s} {be}", "Can you tell me what {s} {be}?",
                           "What {be} {s} and how does it work?", "What {be} {s} good for?", "What {be} the idea behind {s}?", "What {be} the point of {s}?", "What {be} {s} in software engineering?"))
        return finish(rng, form.format(s=s, be=be)), c, False, False
    if x < 0.70:
        form = rng.choice(("explain {b}", "explain {b}", "explain {b} to me", "explain {b} briefly", "describe {b}", "define {b}", "explain the concept of {b}", "explain how {s} works", "tell me about {b}", "give me an introduction to {b}",
                           "explain the idea of {b}", "give me an overview of {b}", "summarize {b}", "explain {b} like I am five", "teach me {b}", "explain {b} in simple words", "give a definition of {b}", "explain what {s} means", "walk me through {b}",
                           "give me a short explanation of {b}", "introduce me to {b}", "explain what {s} is"))
        return dress(rng, form.format(b=b, s=s), False), c, False, False
    if x < 0.80:
        form = rng.choice(("How does {s} work?", "How do {b} work?", "how does {b} work", "When should I use {s}?", "What are the advantages of {b}?", "What are the benefits of {b}?", "What are the drawbacks of {b}?",
                           "What problem does {s} solve?", "When is {s} useful?", "Is {s} a good idea?", "What are the pros and cons of {b}?", "Should I use {s}?", "How would you describe {b}?", "What should I know about {b}?",
                           "How do I learn {b}?", "What are common mistakes with {b}?", "How is {b} usually done?", "In general, how does {b} work?", "What does {s} do?", "Where does the idea of {b} come from?"))
        return finish(rng, form.format(s=s, b=b)), c, False, False
    if x < 0.9:
        form = rng.choice(("Why use {s}?", "Why do people use {s}?", "Why would I use {s}?", "Why {be} {s} important?", "Why does {s} matter?", "Why do we need {s}?", "Why is {b} useful?", "Why should I care about {b}?", "Why would anyone want {s}?"))
        return finish(rng, form.format(s=s, b=b, be=be)), c, True, False
    form = rng.choice(("explain what {s} {be} in one sentence", "explain {b} in one sentence", "in one sentence, what {be} {s}?", "define {b} in one sentence", "describe {b} in a single sentence", "what {be} {s}, in one sentence?",
                       "give me one sentence about {b}", "explain in one sentence what {s} {be}", "summarize {b} in one sentence"))
    text = form.format(s=s, b=b, be=be)
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else rng.choice((":", "", "."))), c, False, True


def two_concepts(rng: Random) -> tuple[str, str, str]:
    """Asks what sets two concepts apart; returns (question, one, other)."""
    a = concept(rng) if rng.random() < 0.3 else rng.choice(list(KNOWN))
    b = partner(rng, a)
    x, y = (bare(a), bare(b)) if rng.random() < 0.4 else (_spoken(rng, a), _spoken(rng, b))
    form = rng.choice(("What's the difference between {x} and {y}?", "What is the difference between {x} and {y}?", "How does {x} differ from {y}?", "Compare {x} and {y}", "{x} vs {y}?", "Should I use {x} or {y}?", "How is {x} different from {y}?",
                       "Explain the difference between {x} and {y}", "Which is better, {x} or {y}?", "When would you choose {x} over {y}?", "What are the differences between {x} and {y}?", "Compare {x} with {y}", "{x} versus {y}: what is the difference?",
                       "What distinguishes {x} from {y}?", "How do {x} and {y} compare?", "Is {x} the same as {y}?", "Can you compare {x} to {y}?", "Tell me the difference between {x} and {y}", "Is {x} better than {y}?"))
    text = form.format(x=x, y=y)
    return finish(rng, text[0].upper() + text[1:]), a, b


__all__ = ["camel", "dress", "finish", "listing", "quoted", "read", "search", "single_concept", "snake", "symbol", "tests", "two_concepts"]
