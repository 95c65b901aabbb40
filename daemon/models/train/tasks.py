"""The exchanges without tools: relationship types, search queries, affinity scores and small talk.

Each function returns (system prompt or None, user text, answer).
"""

from random import Random

from names import NOUNS, TECH, WORDS, _cap, part, proper, pseudo

# first label, second label, relationship, reason
RELATIONS = (
    ("Brief", "Debrief", "COMPLETES", "the debrief reports the end of the brief"),
    ("Brief", "Report", "COMPLETES", "the report closes the brief"),
    ("Plan", "Retrospective", "COMPLETES", "the retrospective looks back at the plan"),
    ("Bug", "Fix", "FIXES", "the fix removes the bug"),
    ("Issue", "Patch", "FIXES", "the patch removes the issue"),
    ("Spec", "Implementation", "IMPLEMENTS", "the implementation follows the spec"),
    ("Design", "Code", "IMPLEMENTS", "the code follows the design"),
    ("Feature", "Test", "TESTS", "the test checks the feature"),
    ("Epic", "Task", "PART_OF", "the task belongs to the epic"),
    ("Project", "Milestone", "PART_OF", "the milestone belongs to the project"),
    ("Draft", "Final", "SUPERSEDES", "the final text replaces the draft"),
    ("Version 1", "Version 2", "SUPERSEDES", "the second version replaces the first"),
    ("Question", "Answer", "ANSWERS", "the answer responds to the question"),
    ("Module", "Guide", "DOCUMENTS", "the guide describes the module"),
    ("Alert", "Incident", "CAUSES", "the alert led to the incident"),
    ("Task", "Blocker", "BLOCKS", "the blocker holds up the task"),
    ("Paper", "Summary", "SUMMARIZES", "the summary condenses the paper"),
    ("Note", "Note", "RELATES_TO", "both notes touch the same subject"),
    ("Idea", "Meeting", "RELATES_TO", "the meeting touches the idea"),
)
STATES = ("Complete", "Done", "Finished", "Delivered", "Closed", "Shipped")
TIMES = ("last week", "this week", "yesterday", "last month", "today", "this year", "last year", "the last 3 days", "January", "2024", "last quarter", "Monday")
DOCS = ("planning notes", "financial review", "meeting minutes", "budget draft", "design sketch", "roadmap", "status report", "survey results", "test report",
        "style guide", "price list", "hiring plan", "incident report", "sales forecast", "training manual", "release notes", "risk register", "research summary")
TOPICS = ("machine learning", "data privacy", "climate change", "team building", "graph databases", "user research", "cloud costs", "web security",
          "project planning", "public health", "energy markets", "remote work", "language models", "supply chains", "urban gardening")


def _title(rng: Random) -> str:
    verb = rng.choice(("Refactor", "Build", "Migrate", "Design", "Write", "Plan", "Review", "Test", "Ship", "Improve", "Remove", "Add", "Update", "Clean up"))
    return verb + " " + rng.choice((rng.choice(TECH), _cap(rng.choice(WORDS)), _cap(pseudo(rng)), f"{rng.choice(TECH)} {_cap(rng.choice(NOUNS))}"))


def relation(rng: Random):
    """Names the relationship of two nodes of a graph."""
    first, second, name, reason = rng.choice(RELATIONS)
    title = _title(rng)
    words = title.split(" ", 1)
    other = rng.choice((title, f"{words[1]} {words[0]} {rng.choice(STATES)}", f"{title} {rng.choice(STATES)}", words[1], _title(rng) if name == "RELATES_TO" else title))
    mark = rng.choice(('"', '"', "'", ""))
    a, b = f"{mark}{first}: {title}{mark}", f"{mark}{second}: {other}{mark}"
    ask = rng.choice(("Relationship?", "Relationship type?", "What is the relationship?", "Edge type?", "Which relationship?", "Name the relationship.", "How are they related?", "Relation?"))
    user = rng.choice(("Node A: {a}\nNode B: {b}\n{q}", "Node A {a}, Node B {b}, {q}", "Node A: {a}, Node B: {b}. {q}", "A: {a}\nB: {b}\n{q}", "Source: {a}\nTarget: {b}\n{q}", "Node A {a}\nNode B {b}\n{q}",
                       "From {a} to {b}: {q}")).format(a=a, b=b, q=ask)
    system = rng.choice(("You are a high-velocity semantic engine. Determine the relationship type of a graph edge.", "You are a high-velocity semantic engine that determines the relationship type of a graph edge.",
                         "You name the relationship between two nodes of a graph.", "You are a semantic engine. Answer with the relationship type.", "Determine the relationship type of the edge.", "You label edges of a knowledge graph.", None))
    return system, user, f"{name}: {reason}."


def query(rng: Random):
    """Turns a request into the small query language."""
    topic = rng.choice((rng.choice(TOPICS), f"{part(rng)} {part(rng)}", part(rng), f"{rng.choice(TECH)} {rng.choice(NOUNS)}", pseudo(rng)))
    kind = rng.choice(("resources", "resources", "resources", "documents", "notes", "articles", "files", "papers", "tickets", "emails"))
    verb = rng.choice(("Find", "Find", "Show", "Get", "List", "Search for", "Give me", "Look for", "Show me", "Find all", "I need"))
    about = rng.choice(("about", "about", "on", "related to", "concerning", "regarding", "that mention"))
    x = rng.random()
    if x < 0.6:
        t = rng.choice(TIMES)
        text, where = f"{verb} {kind} {about} {topic} from {t}", f'date = "{t}"'
    elif x < 0.8:
        who = proper(rng)
        text, where = f"{verb} {kind} {about} {topic} {rng.choice(('by', 'written by', 'from the author'))} {who}", f'author = "{who}"'
    else:
        tag = part(rng)
        text, where = f"{verb} {kind} {about} {topic} {rng.choice(('tagged', 'with the tag', 'labelled'))} {tag}", f'tag = "{tag}"'
    system = rng.choice(("Turn the request into a query of the form SEARCH \"...\" IN ... WHERE ...", "You translate requests into queries: SEARCH \"text\" IN collection WHERE condition.", "Convert the user's request into a SEARCH query.",
                         "Write a query in the small query language SEARCH ... IN ... WHERE ... for the request.", "You are a query writer. Answer with one SEARCH query.", None))
    x = rng.random()
    if system is None or x < 0.3:
        text = rng.choice(("Convert to a query: ", "Translate into a SEARCH query: ", "Query for: ", "Turn this into a query: ", "Write a SEARCH query: ")) + text
    return system, text, f'SEARCH "{topic}" IN {kind} WHERE {where}'


def affinity(rng: Random):
    """Scores how close two resources are, as JSON."""
    a_doc, b_doc = rng.choice(DOCS), rng.choice(DOCS)
    a_head = rng.choice((f"Q{rng.randint(1, 4)}", _cap(rng.choice(WORDS)), rng.choice(TECH), _cap(pseudo(rng))))
    x = rng.random()
    if x < 0.4:
        b_head, score, reason = a_head, 0.9 if a_doc == b_doc else 0.8, f"both are about {a_head}"
    elif a_head[0] == "Q" and a_head[1:].isdigit():
        b_head = "Q" + str(int(a_head[1]) % 4 + 1)
        score, reason = 0.6, f"{a_head} and {b_head} belong to the same kind of planning"
    else:
        b_head = rng.choice((_cap(pseudo(rng)), rng.choice(TECH)))
        score, reason = (0.5, f"both are a kind of {a_doc}") if a_doc == b_doc else (0.2, f"{a_head} and {b_head} have little in common")
    a, b = f"{a_head} {a_doc}", f"{b_head} {b_doc}"
    mark = rng.choice(('"', "", "'"))
    form = rng.choice(("Score the affinity of these two resources as JSON with affinity_score (0 to 1) and reason.\nA: {a}\nB: {b}", "Resource A: {a}\nResource B: {b}\nAnswer as JSON with affinity_score and reason.",
                       "How related are {a} and {b}? Reply in JSON with affinity_score and reason.", "Rate the affinity between {a} and {b} as JSON.", "Resource 1: {a}\nResource 2: {b}\nReturn JSON with affinity_score and reason.",
                       "Score the affinity of {a} and {b}. Return JSON: affinity_score from 0 to 1, and reason.", "Give the affinity of {a} and {b} as JSON.", "Affinity of {a} and {b}?"))
    system = rng.choice((None, "You score how related two resources are. Answer in JSON with affinity_score and reason.", "You are a scoring engine. Reply with JSON only.", "Answer with valid JSON."))
    if form == "Affinity of {a} and {b}?":
        system = "You score how related two resources are. Answer in JSON with affinity_score and reason."
    return system, form.format(a=mark + a + mark, b=mark + b + mark), f'{{"affinity_score": {score}, "reason": "{reason}"}}'


TALK = (
    ("Hello|Hi|Hey|Hello!|Hi there|Good morning|Hey there!|hi|Good evening|Hello there|Hi!|hello|Greetings", "Hello! What can I do for you?"),
    ("Thanks|Thank you|Thanks a lot|Thank you!|Great, thanks|Cool, thanks!|thanks|Perfect, thank you|Thanks for your help|Many thanks|thx", "You are welcome."),
    ("Who are you?|What are you?|What is your name?|Tell me about yourself|who are you|Introduce yourself", "I am a small code assistant. I can look things up with tools and explain common ideas of software."),
    ("How are you?|How are you doing?|How is it going?|How do you do?|how are you", "I am fine, thank you. What can I do for you?"),
    ("What can you do?|Help|What can you help me with?|How can you help me?|What are your abilities?|help", "I can search code, open files and explain common ideas of software."),
    ("Bye|Goodbye|See you|Bye!|See you later|Good night|That is all", "Goodbye!"),
    ("Yes|OK|Okay|Sure|Fine|Good|Nice|Great|Cool|ok|Good job|Well done", "Good. What is next?"),
    ("Sorry|I am sorry|My mistake|Never mind|Forget it|No|Stop", "No problem. What is next?"),
    ("Tell me a joke|Make me laugh|Do you know a joke?|Say something funny", "Why do programmers prefer dark mode? Because light attracts bugs."),
    ("What day is it?|What is today's date?|What time is it?|What is the date?", "I cannot see a clock from here."),
    ("Write a poem|Write me a poem about spring|Write a haiku|Sing a song", "Small loops in the night, each one waiting for its turn, a test turns to green."),
    ("Say hello|Say hi|Just say hello|Say hello to me", "Hello!"),
    ("Are you human?|Are you a robot?|Are you real?|Are you an AI?", "I am a small language model."),
    ("What is the capital of France?|Who wrote Hamlet?|How old is the earth?|Who won the world cup?|How tall is Mount Everest?|Who is the president?|What is the meaning of life?|How far is the moon?", "I only know about software."),
    ("Can you help me?|I need help|I have a question|Can I ask you something?|Could you help me?", "Of course. What do you need?"),
)


def talk(rng: Random):
    """Small talk."""
    asks, answer = rng.choice(TALK)
    return None, rng.choice(asks.split("|")), answer
