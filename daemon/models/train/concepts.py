"""What the built-in pair knows: one short definition per concept, and the sentences made of them.

It is a toy in what it knows; a concept that stands in no line here gets a general sentence that is true of any.
"""

from random import Random

from names import _cap, pseudo, part

# kind | name | definition, to follow "X is"
TABLE = """
design|dependency injection|a technique in which an object is given the things it depends on instead of creating them itself
design|inversion of control|a design in which a framework calls your code rather than your code calling the framework
design|the singleton pattern|a pattern that allows only one instance of a class and gives one way to reach it
design|the factory pattern|a pattern in which a function or class decides which object to create
design|the observer pattern|a pattern in which an object tells its subscribers when something changes
design|the strategy pattern|a pattern that puts each algorithm behind the same interface so that they can be exchanged
design|the adapter pattern|a pattern that wraps an interface so that it fits the one that the caller expects
design|the decorator pattern|a pattern that wraps an object to add behaviour without changing its class
design|the repository pattern|a pattern that hides data storage behind an interface that looks like a collection
design|the builder pattern|a pattern that creates a complex object step by step
design|composition|building a class out of other objects rather than from a parent class
design|inheritance|a mechanism by which a class takes over the fields and methods of a parent class
design|polymorphism|the ability of different types to answer the same call in their own way
design|encapsulation|keeping data together with the code that works on it and hiding the details
design|abstraction|hiding details behind a simpler interface
design|an interface|a list of operations that a type promises to offer
design|an abstract class|a class that cannot be created itself and leaves some methods to its children
design|coupling|the degree to which one part of a program depends on another
design|cohesion|the degree to which the things inside one module belong together
design|separation of concerns|dividing a program so that each part looks after one thing
design|the SOLID principles|five rules for object-oriented design that keep classes small and replaceable
design|DRY|the rule that every piece of knowledge should stand in one place only
design|YAGNI|the rule not to build what is not needed yet
design|MVC|an architecture that splits a program into model, view and controller
design|domain-driven design|an approach that models software after the language of its business domain
design|event sourcing|storing every change as an event and computing the state from them
design|CQRS|an architecture that separates the model for reading from the model for writing
design|a microservice|a small service that is deployed alone and talks to others over the network
design|a monolith|an application that is built and deployed as one piece
design|clean architecture|an architecture whose inner layers know nothing of the outer ones
design|hexagonal architecture|an architecture that reaches the outside world only through ports and adapters
design|duck typing|judging a value by the methods it has rather than by its declared type
design|a design pattern|a proven solution to a problem that appears again and again in software
design|technical debt|the future cost of a quick solution that was chosen over a better one
design|refactoring|changing the structure of code without changing what it does
design|a code smell|a sign in the code that its structure may be poor
data|ORM|a layer that maps database rows to objects, so that code works with classes instead of statements
data|raw SQL|a query written by hand in the language of the database, which gives full control
data|an index|a structure that lets a database find rows without reading the whole table
data|a primary key|a column whose value names each row of a table exactly once
data|a foreign key|a column that refers to the primary key of another table
data|normalization|arranging tables so that each fact is stored only once
data|denormalization|storing a fact in several places so that reads become faster
data|a transaction|a group of changes that succeed or fail together
data|ACID|four guarantees of a transaction: atomicity, consistency, isolation and durability
data|the CAP theorem|a result which says that a distributed store must choose between consistency and availability when the network splits
data|eventual consistency|a promise that all copies of data agree in the end but not at once
data|sharding|splitting data over several machines by a key
data|replication|keeping copies of the same data on several machines
data|a migration|a script that changes the schema of a database from one version to the next
data|a join|an operation that combines rows of two tables by a common column
data|a view|a stored query that can be read like a table
data|a stored procedure|a program that is kept and run inside the database
data|NoSQL|a family of databases that store documents, keys or graphs instead of tables
data|a data warehouse|a database that is arranged for reports over large amounts of history
data|lazy loading|fetching data only when it is first used
data|eager loading|fetching related data together with the first query
data|the N+1 problem|running one query for a list and then one more for each of its items
data|connection pooling|keeping database connections open so that they can be used again
data|optimistic locking|checking for a conflict only at the moment when a change is written
data|pessimistic locking|locking a row before reading it so that nobody else can change it
data|a schema|a description of the shape of the data
data|serialization|turning an object into bytes or text so that it can be stored or sent
data|JSON|a text format for objects, lists, strings and numbers
data|YAML|a text format for configuration that uses indentation
data|a bloom filter|a small structure that can say that an item is certainly not in a set
data|a B-tree|a balanced tree with wide nodes that suits disks
data|a hash table|a structure that finds a value by the hash of its key in constant time
data|a linked list|a list in which each item points to the next one
data|a stack|a list in which the last item added is the first one taken
data|a queue|a list in which the first item added is the first one taken
data|a heap|a tree that keeps its smallest or largest item at the top
data|a binary search tree|a tree in which smaller keys stand on the left and larger ones on the right
data|a trie|a tree that stores words by their common beginnings
data|a graph|a set of nodes that are joined by edges
run|async/await|a way to write code that waits for slow operations without blocking the thread
run|concurrency|dealing with several tasks in overlapping periods of time
run|parallelism|doing several computations at the same moment on several cores
run|a thread|a line of execution that shares memory with the others of its process
run|a process|a running program with memory of its own
run|a coroutine|a function that can pause and go on later
run|an event loop|a loop that waits for events and runs the code that belongs to each
run|a mutex|a lock that lets only one thread into a section of code at a time
run|a semaphore|a counter that limits how many threads may use a resource at once
run|a deadlock|a state in which tasks wait for each other for ever
run|a race condition|a fault in which the result depends on the order in which threads happen to run
run|the GIL|a lock in Python that lets only one thread run bytecode at a time
run|garbage collection|the automatic release of memory that a program can no longer reach
run|reference counting|a way to free memory as soon as nothing refers to it
run|a memory leak|memory that a program keeps although it no longer needs it
run|the call stack|the list of functions that have been called and have not returned yet
run|recursion|a way to solve a problem in which a function calls itself on a smaller part
run|tail recursion|recursion in which the call to itself is the last thing that a function does
run|memoization|remembering the result of a function for arguments that it has seen
run|caching|keeping results close at hand so that they need not be computed or fetched again
run|lazy evaluation|computing a value only when it is needed
run|a closure|a function that remembers the variables of the place where it was made
run|a generator|a function that yields its values one at a time
run|an iterator|an object that hands out the items of a collection one after the other
run|a decorator|a function that wraps another function to add behaviour
run|a context manager|an object that sets something up before a block of code and cleans up after it
run|a metaclass|a class whose instances are classes
run|a lambda|a small function without a name
run|a higher-order function|a function that takes or returns functions
run|a pure function|a function whose result depends only on its arguments and that changes nothing else
run|immutability|the property of a value that cannot be changed after it was made
run|functional programming|a style that builds programs out of functions without changing state
run|object-oriented programming|a style that builds programs out of objects that hold data and methods
run|static typing|checking the types of a program before it runs
run|dynamic typing|checking the types of values while the program runs
run|type inference|the ability of a compiler to work out types that are not written down
run|generics|types and functions that work for many types by taking a type as a parameter
run|a compiler|a program that translates source code into machine code
run|an interpreter|a program that runs source code directly
run|just-in-time compilation|compiling parts of a program while it runs
run|ownership|a rule in Rust that gives each value exactly one owner
run|borrowing|using a value in Rust by reference without taking ownership
run|a pointer|a value that holds the address of another value
run|pass by reference|handing a function the place of a value rather than a copy of it
run|exception handling|a way to report an error to a caller further up the stack
run|a monad|a structure that chains computations which carry a context
run|big O notation|a way to say how the cost of an algorithm grows with the size of its input
run|binary search|a way to find an item in a sorted list by halving the range each time
run|dynamic programming|a method that solves a problem once for each part and keeps the results
web|REST|a style of web interface that works on resources with the methods of HTTP
web|GraphQL|a query language for interfaces in which the client names the fields that it wants
web|gRPC|a framework for remote calls that uses HTTP/2 and binary messages
web|HTTP|the protocol by which browsers and servers exchange requests and responses
web|HTTPS|HTTP inside an encrypted connection
web|a WebSocket|a connection over which a server and a client can both send messages at any time
web|CORS|a rule by which a server tells browsers which other sites may call it
web|CSRF|an attack in which another site makes a browser send a request that the user did not want
web|XSS|an attack that puts foreign script into a page
web|SQL injection|an attack that smuggles commands into a query through its input
web|OAuth|a protocol that lets an application act for a user without knowing the password
web|JWT|a signed token that carries claims about a user
web|authentication|finding out who somebody is
web|authorization|deciding what somebody is allowed to do
web|a cookie|a small piece of data that a browser keeps for a site and sends with each request
web|a session|the state that a server keeps for one visitor between requests
web|middleware|code that runs between the server and the handler of each request
web|a reverse proxy|a server that takes requests and passes them to others behind it
web|a load balancer|a server that spreads requests over several machines
web|a CDN|a network of servers that keeps copies of files close to the users
web|rate limiting|refusing requests that come faster than allowed
web|idempotency|the property that doing something twice has the same effect as doing it once
web|pagination|delivering a long list in pages
web|a webhook|a request that a service sends to you when something happens
web|server-side rendering|building a page on the server before it is sent
web|the virtual DOM|a copy of the page in memory that is compared to find the smallest change
web|DNS|the system that turns names into network addresses
web|TCP|a protocol that delivers bytes in order and without loss
web|UDP|a protocol that sends packets without any promise of delivery
web|TLS|a protocol that encrypts a connection and proves who the server is
web|encryption|making data unreadable for everybody without the key
web|hashing|computing a short fixed value from data in a way that cannot be turned back
web|public key cryptography|encryption with a public key that anybody may know and a private one that stays secret
web|an API|a set of calls that a program offers to other programs
web|a message queue|a service that keeps messages until a consumer takes them
web|publish/subscribe|a style in which senders publish to topics and receivers subscribe to them
ops|Docker|a tool that packs a program with all that it needs into a container
ops|a container|an isolated process that brings its own files and libraries
ops|a virtual machine|a computer that is imitated in software
ops|Kubernetes|a system that runs and repairs containers over many machines
ops|continuous integration|merging and testing every change automatically and often
ops|continuous deployment|bringing every change that passes its tests into production
ops|infrastructure as code|describing machines and networks in files that are kept under version control
ops|blue-green deployment|running the old and the new version side by side and switching between them
ops|a canary release|giving a new version to a few users first
ops|a feature flag|a switch that turns a feature on or off without a new release
ops|observability|the ability to see from outside what a system is doing inside
ops|logging|writing down what a program does while it runs
ops|distributed tracing|following one request through all of the services that it touches
ops|latency|the time between a request and its answer
ops|throughput|the amount of work that is done in a unit of time
ops|horizontal scaling|adding more machines
ops|vertical scaling|making one machine bigger
ops|a circuit breaker|a guard that stops calls to a service which keeps failing
ops|version control|keeping every version of the files of a project
ops|git rebase|an operation that moves commits onto another base
ops|git merge|an operation that joins two lines of history
ops|semantic versioning|a scheme in which the number of a version tells how much has changed
ops|a unit test|a test of one small part of a program alone
ops|an integration test|a test of several parts working together
ops|test-driven development|writing a test before the code that makes it pass
ops|mocking|replacing a part by a stand-in during a test
ops|code coverage|the share of the code that the tests run
ops|code review|reading the change of a colleague before it is merged
ops|static analysis|examining code without running it
ops|a linter|a program that points out mistakes and poor style in code
ops|profiling|measuring where a program spends its time
ops|pair programming|two people writing code together at one screen
ops|agile|a way of working in short steps with frequent feedback
ml|machine learning|a field in which programs learn rules from data
ml|a neural network|a model made of layers of weighted sums and simple functions
ml|deep learning|machine learning with neural networks of many layers
ml|gradient descent|a method that follows the slope of the loss downhill step by step
ml|backpropagation|a method that computes the gradients of a network layer by layer from the end
ml|overfitting|learning the training data so closely that new data is handled badly
ml|regularization|any measure that keeps a model from fitting noise
ml|a transformer|a neural network that relates all tokens of a text by attention
ml|attention|a mechanism by which a model weighs which other tokens matter for the present one
ml|an embedding|a vector that stands for a word, a text or an image
ml|semantic search|a search by meaning, which compares vectors instead of words
ml|a vector database|a store that finds the vectors closest to a given one
ml|tokenization|splitting a text into the pieces that a model reads
ml|a language model|a model that predicts the next token of a text
ml|speculative decoding|a technique in which a small model proposes tokens that a large model checks at once
ml|quantization|storing the weights of a model with fewer bits
ml|fine-tuning|training a finished model further on special data
ml|distillation|training a small model to imitate a large one
ml|a KV cache|a memory of the keys and values of earlier tokens that saves computing them again
ml|prompt engineering|writing the input of a language model so that it answers well
ml|retrieval-augmented generation|giving a language model passages that were found by a search
ml|reinforcement learning|learning by trial from rewards
ml|supervised learning|learning from examples whose answers are known
ml|clustering|grouping items that are alike
ml|a decision tree|a model that asks one question after the other until it reaches an answer
ml|temperature|a setting that makes sampling more or less random
ml|a tool call|a request of a language model to run a function and to tell it the result
ml|an agent|a program that lets a language model choose its next actions
"""

WHY = {
    "design": "It keeps the parts of a program apart, so that each can be tested and changed alone.",
    "data": "It is chosen to keep data correct and quick to reach.",
    "run": "It helps to write programs that are correct and use the machine well.",
    "web": "It matters wherever programs talk to each other over a network.",
    "ops": "It helps a team to deliver changes quickly and to notice faults early.",
    "ml": "It is part of how models learn from data and are used.",
}

# Concepts without a definition here: they get the general sentence.
OTHERS = """
hoisting currying debouncing throttling tree shaking hot reloading code splitting prototypal inheritance event bubbling
the actor model backpressure consensus leader election Raft Paxos two-phase commit the saga pattern the outbox pattern
write-ahead logging MVCC isolation levels phantom reads vacuuming columnar storage materialized views window functions
common table expressions full-text search inverted indexes BM25 cosine similarity dimensionality reduction beam search
top-p sampling attention masks layer normalization dropout batch normalization transfer learning data augmentation
cross-validation precision and recall the ROC curve random forests gradient boosting support vector machines k-means
principal component analysis Markov chains Bayesian inference Monte Carlo methods simulated annealing genetic algorithms
Dijkstra's algorithm breadth-first search depth-first search quicksort merge sort radix sort union-find segment trees
suffix arrays red-black trees AVL trees skip lists ring buffers copy-on-write memory mapping virtual memory paging
context switching system calls interrupts cache coherence false sharing branch prediction SIMD vectorization endianness
floating point two's complement UTF-8 base64 regular expressions finite automata parsing lexing abstract syntax trees
operator precedence name mangling linking dynamic linking position-independent code sandboxing zero-copy io_uring epoll
green threads work stealing lock-free programming memory barriers atomics futures promises callbacks reactive programming
dataflow unidirectional data flow state machines feature toggles trunk-based development monorepos code ownership
pull requests squash merging cherry-picking bisecting blameless postmortems error budgets service level objectives chaos
engineering service meshes sidecars API gateways content negotiation ETags conditional requests long polling
server-sent events HTTP/2 HTTP/3 QUIC certificate pinning mutual TLS single sign-on SAML OpenID Connect PKCE role-based
access control least privilege zero trust threat modeling fuzzing property-based testing mutation testing snapshot testing
contract testing smoke tests regression tests end-to-end tests load testing type erasure covariance monomorphization
lifetimes the borrow checker smart pointers RAII move semantics templates traits mixins multiple inheritance operator
overloading pattern matching algebraic data types option types null safety tail calls continuations macros reflection
"""


def _split_others() -> list[str]:
    known = ("tree shaking|hot reloading|code splitting|prototypal inheritance|event bubbling|the actor model|leader election|"
             "two-phase commit|the saga pattern|the outbox pattern|write-ahead logging|isolation levels|phantom reads|columnar storage|"
             "materialized views|window functions|common table expressions|full-text search|inverted indexes|cosine similarity|"
             "dimensionality reduction|beam search|top-p sampling|attention masks|layer normalization|batch normalization|transfer learning|"
             "data augmentation|precision and recall|the ROC curve|random forests|gradient boosting|support vector machines|"
             "principal component analysis|Markov chains|Bayesian inference|Monte Carlo methods|simulated annealing|genetic algorithms|"
             "Dijkstra's algorithm|breadth-first search|depth-first search|merge sort|radix sort|segment trees|suffix arrays|"
             "red-black trees|AVL trees|skip lists|ring buffers|memory mapping|virtual memory|context switching|system calls|"
             "cache coherence|false sharing|branch prediction|SIMD vectorization|floating point|two's complement|regular expressions|"
             "finite automata|abstract syntax trees|operator precedence|name mangling|dynamic linking|position-independent code|"
             "green threads|work stealing|lock-free programming|memory barriers|reactive programming|unidirectional data flow|"
             "state machines|feature toggles|trunk-based development|code ownership|pull requests|squash merging|blameless postmortems|"
             "error budgets|service level objectives|chaos engineering|service meshes|API gateways|content negotiation|"
             "conditional requests|long polling|server-sent events|certificate pinning|mutual TLS|single sign-on|OpenID Connect|"
             "role-based access control|least privilege|zero trust|threat modeling|property-based testing|mutation testing|"
             "snapshot testing|contract testing|smoke tests|regression tests|end-to-end tests|load testing|type erasure|"
             "the borrow checker|smart pointers|move semantics|multiple inheritance|operator overloading|pattern matching|"
             "algebraic data types|option types|null safety|tail calls").split("|")
    rest = " ".join(OTHERS.split())
    for name in known:
        rest = rest.replace(name, " ")
    return known + rest.split()


KNOWN: dict[str, tuple[str, str]] = {}
for _line in TABLE.strip().splitlines():
    _kind, _name, _text = _line.split("|")
    KNOWN[_name] = (_kind, _text)
UNKNOWN = _split_others()


def bare(name: str) -> str:
    """The name without its article."""
    for article in ("the ", "an ", "a "):
        if name.startswith(article):
            return name[len(article):]
    return name


def concept(rng: Random) -> str:
    """A concept to ask about: known, known by name only, or invented."""
    x = rng.random()
    if x < 0.62:
        return rng.choice(list(KNOWN))
    if x < 0.76:
        return rng.choice(UNKNOWN)
    if x < 0.84:
        return pseudo(rng) + rng.choice(("ing", "ation", "ity", "ism", "ness", " theory", " pattern", " algorithm"))
    if x < 0.88:
        return "the " + pseudo(rng) + rng.choice((" pattern", " principle", " problem", " method", " protocol", " theorem"))
    if x < 0.92:
        return _cap(pseudo(rng))
    if x < 0.96:
        return part(rng) + " " + rng.choice(("hashing", "testing", "binding", "typing", "scoping", "tracing", "sharding", "inference", "design"))
    return "".join(rng.choice("ABCDEFGHIKLMNOPRSTUVWX") for _ in range(rng.randint(2, 5)))


def sentence(name: str) -> str:
    """One sentence that says what a concept is."""
    if name in KNOWN:
        return f"{_cap(name)} is {KNOWN[name][1]}."
    return f"{_cap(name)} is a concept whose exact meaning depends on where it is used."


def answer(name: str, why: bool, brief: bool) -> str:
    """A direct answer: what it is, and unless `brief` why it is used (first when `why`)."""
    first = sentence(name)
    if brief:
        return first
    if name in KNOWN:
        second = WHY[KNOWN[name][0]]
    else:
        second = f"In practice, look at an example of {bare(name)} first, and then at the problem that it solves."
    return f"{second} {first}" if why and name in KNOWN else f"{first} {second}"


def comparison(a: str, b: str) -> str:
    """A direct answer to what sets two concepts apart."""
    parts = []
    for name in (a, b):
        if name in KNOWN:
            parts.append(f"{_cap(name)} is {KNOWN[name][1]}.")
        else:
            parts.append(f"{_cap(name)} has its own trade-offs.")
    return f"{parts[0]} {parts[1]} Which one fits depends on what you need."


def partner(rng: Random, name: str) -> str:
    """Another concept to compare with, most often of the same kind."""
    if name in KNOWN and rng.random() < 0.8:
        same = [n for n in KNOWN if KNOWN[n][0] == KNOWN[name][0] and n != name]
        return rng.choice(same)
    other = concept(rng)
    return other if other != name else "caching"
