//! How others reach the ledger: tell it something without waiting, ask for the latest runs, or for one. And the task that
//! owns the book.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dwell_probes::metrics::{LatencyBudget, Registry};
use dwell_probes::report::RunReport;
use dwell_probes::span::Span;
use dwell_probes::time::Stamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::book::Book;
use super::event::{Event, Snapshot};
use super::outlets::{Outlets, UNSTORED, room_on_the_way};
use crate::threads::breathe;

/// Events that may wait for the ledger. A burst of 1,000 calls makes 2,000; beyond the bound they are dropped and counted.
const QUEUE: usize = 8192;

/// Spans that may wait for the ledger: a second's worth of the fastest exporters, some 200 MB.
const UNHEARD: usize = 200_000;

/// Spans that those who report may be ahead of the ledger by, and twice as many ahead of the disk: what waits longer has left the
/// caches when its turn comes, and takes memory.
const AHEAD: usize = 12_500;

/// Bytes that may wait to be read: some seconds of many streams at once.
const UNREAD: usize = 32 << 20;

/// How often who reports spans looks for room for more.
const LOOK: Duration = Duration::from_millis(2);

/// Messages that are taken from the queue at once.
const BATCH: usize = 256;

/// How long messages gather once all are taken and nobody waits for an answer: time for many pieces of a stream.
const GATHER: Duration = Duration::from_millis(10);

/// How often idle runs are looked at, and what was dropped is counted.
const TICK: Duration = Duration::from_millis(500);

/// What was dropped, by what it was.
#[derive(Debug, Default)]
pub(super) struct Dropped(Mutex<BTreeMap<&'static str, u64>>);

impl Dropped {
    fn count(&self, what: &'static str, n: u64) {
        if n == 0 {
            return;
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += n;
    }

    fn list(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(&what, &n)| (what, n)).collect()
    }
}

fn take(room: &Arc<Semaphore>, places: usize) -> Option<OwnedSemaphorePermit> {
    Arc::clone(room).try_acquire_many_owned(u32::try_from(places).ok()?).ok()
}

fn room_for_spans() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(UNHEARD))
}

fn room_for_bytes() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(UNREAD))
}

/// A question to the ledger's task.
#[derive(Debug)]
enum Message {
    Event(Event, Option<OwnedSemaphorePermit>),
    Report { run: String, reply: oneshot::Sender<Option<RunReport>> },
    Metrics { reply: oneshot::Sender<Registry> },
    Snapshot { reply: oneshot::Sender<Snapshot> },
    Close { reply: oneshot::Sender<()> },
}

/// Reaches the ledger from anywhere; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    messages: mpsc::Sender<Message>,
    active: Arc<AtomicUsize>,
    dropped: Arc<Dropped>,
    /// Room for spans in the queue.
    unheard: Arc<Semaphore>,
    /// Room for spans on their way to the store.
    unstored: Arc<Semaphore>,
    /// Room for bytes that are yet to be read.
    unread: Arc<Semaphore>,
    /// Told when somebody waits for an answer.
    asked: Arc<Notify>,
}

/// A place in the ledger's queue: what is told there is heard.
#[derive(Debug)]
pub struct Place(mpsc::OwnedPermit<Message>);

impl Place {
    /// Tells the ledger something, in the order of time with everything else.
    pub fn tell(self, event: Event) {
        drop(self.0.send(Message::Event(event, None)));
    }
}

/// Room for bytes that wait to be read, free again when it is dropped.
#[derive(Debug)]
pub struct Room(OwnedSemaphorePermit);

impl Room {
    /// Adds the room of others that wait with these.
    pub fn add(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

impl Handle {
    /// Tells the ledger something. Never waits: when the queue is full the event is dropped and counted, and the answer is
    /// false.
    pub fn tell(&self, event: Event) -> bool {
        let (what, count) = match &event {
            Event::Spans { spans, .. } => ("spans", spans.len()),
            _ => ("ledger", 1),
        };
        let taken = self.offer(event);
        if !taken {
            self.dropped.count(what, count as u64);
        }
        taken
    }

    /// The same for what can be told again later: nothing is lost when the queue is full, and nothing counted.
    pub fn offer(&self, event: Event) -> bool {
        let room = match &event {
            Event::Spans { spans, .. } => take(&self.unheard, spans.len()).map(Some),
            _ => Some(None),
        };
        room.is_some_and(|room| self.messages.try_send(Message::Event(event, room)).is_ok())
    }

    /// Room for so many bytes that are to be read; `None` when too many wait already.
    pub fn room(&self, bytes: usize) -> Option<Room> {
        take(&self.unread, bytes).map(Room)
    }

    /// A place for what has to be told later, such as a call's end; `None` when the queue is full, and then both the call's
    /// beginning and its end are counted as dropped.
    pub fn place(&self) -> Option<Place> {
        let place = self.messages.clone().try_reserve_owned();
        if place.is_err() {
            self.dropped.count("ledger", 2);
        }
        place.ok().map(Place)
    }

    /// Tells the ledger of spans that were reported to this run, or to none; waits until it has room. Nothing is lost unless
    /// the ledger has ended.
    pub async fn tell_spans(&self, run: Option<String>, spans: Vec<Span>) {
        let count = spans.len() as u64;
        self.has_room().await;
        let places = u32::try_from(count).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.unheard).acquire_many_owned(places).await.ok();
        let told = Message::Event(Event::Spans { run, spans }, room);
        if self.messages.send(told).await.is_err() {
            self.dropped.count("spans", count);
        }
    }

    /// Waits until most of what was reported before is in the ledger and on disk, so that there is room for more. It looks
    /// instead of waiting for places to be free: that would take them from those who cannot wait.
    pub async fn has_room(&self) {
        let is_free = || {
            self.unheard.available_permits() > UNHEARD - AHEAD
                && self.unstored.available_permits() > UNSTORED - 2 * AHEAD
        };
        while !is_free() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The latest runs, with everything that was told before; `None` when the ledger has ended.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        self.ask(|reply| Message::Snapshot { reply }).await
    }

    /// Calls under way, by what the ledger has heard.
    pub fn active_calls(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(question(reply)).await.ok()?;
        self.asked.notify_one();
        answer.await.ok()
    }

    /// One run that is still in memory, with everything that was told before; `None` when it is not known.
    pub async fn report(&self, run: &str) -> Option<RunReport> {
        self.ask(|reply| Message::Report { run: run.to_owned(), reply }).await.flatten()
    }

    /// The metrics of everything that was told before; `None` when the ledger has ended.
    pub async fn metrics(&self) -> Option<Registry> {
        self.ask(|reply| Message::Metrics { reply }).await
    }

    /// What was dropped since the start, by what it was.
    pub fn dropped(&self) -> Vec<(&'static str, u64)> {
        self.dropped.list()
    }

    /// Counts something that was dropped anywhere in the daemon; the count is on every screen.
    pub fn count_dropped(&self, what: &'static str, n: u64) {
        self.dropped.count(what, n);
    }

    /// A handle whose events come out of the receiver, for tests of those who tell.
    #[cfg(test)]
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Event>) {
        let (messages, mut inbox) = mpsc::channel(capacity);
        let (events, outbox) = mpsc::channel(capacity);
        tokio::spawn(async move {
            while let Some(message) = inbox.recv().await {
                let Message::Event(event, _) = message else { continue };
                let event = match event {
                    Event::Unread(unread) => unread.read(),
                    read => Some(read),
                };
                if let Some(event) = event
                    && events.send(event).await.is_err()
                {
                    break;
                }
            }
        });
        let (unheard, unstored) = (room_for_spans(), room_on_the_way());
        let (dropped, unread) = (Arc::default(), room_for_bytes());
        let (active, asked) = (Arc::default(), Arc::default());
        (Self { messages, active, dropped, unheard, unstored, unread, asked }, outbox)
    }
}

/// A ledger that has a handle and does not work yet, so that what it sends to may know the handle.
#[derive(Debug)]
pub struct Ledger {
    messages: mpsc::Sender<Message>,
    inbox: mpsc::Receiver<Message>,
    active: Arc<AtomicUsize>,
    dropped: Arc<Dropped>,
    budget: LatencyBudget,
    unstored: Arc<Semaphore>,
    watch: Option<mpsc::Sender<Arc<RunReport>>>,
    asked: Arc<Notify>,
}

impl Ledger {
    /// A ledger and its handle. What is told before [`Self::start`] waits.
    pub fn new() -> (Handle, Self) {
        let (messages, inbox) = mpsc::channel(QUEUE);
        let active = Arc::<AtomicUsize>::default();
        let dropped = Arc::<Dropped>::default();
        let handle = Handle {
            messages: messages.clone(),
            active: active.clone(),
            dropped: dropped.clone(),
            unheard: room_for_spans(),
            unstored: room_on_the_way(),
            unread: room_for_bytes(),
            asked: Arc::default(),
        };
        let (unstored, asked) = (handle.unstored.clone(), handle.asked.clone());
        let budget = LatencyBudget::default();
        (handle, Self { messages, inbox, active, dropped, budget, unstored, watch: None, asked })
    }

    /// The same, holding calls against this budget.
    #[must_use]
    pub fn with_budget(self, budget: LatencyBudget) -> Self {
        Self { budget, ..self }
    }

    /// Tells this one of every run that is over and settled.
    #[must_use]
    pub fn watched(self, watch: mpsc::Sender<Arc<RunReport>>) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Starts the task that owns the runs.
    pub fn start(mut self, outlets: Outlets) -> Running {
        let messages = self.messages.clone();
        let mut book = Book::new(outlets);
        book.set_budget(self.budget);
        book.outbox().share_room(self.unstored.clone());
        if let Some(watch) = self.watch.take() {
            book.watched(watch);
        }
        Running { messages, asked: self.asked.clone(), task: tokio::spawn(self.work(book)) }
    }

    async fn work(mut self, mut book: Book) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut messages = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = self.inbox.recv_many(&mut messages, BATCH) => {
                    if count == 0 || messages.drain(..).any(|message| self.answer(&mut book, message)) {
                        break;
                    }
                    self.active.store(book.active_calls(), Ordering::Relaxed);
                    // Who tells something while nobody waits for it wakes nobody, which costs more than telling.
                    if self.inbox.is_empty() {
                        let _gathered = tokio::time::timeout(GATHER, self.asked.notified()).await;
                    }
                }
                _ = tick.tick() => {
                    book.close_idle(Stamp::now());
                    self.count_dropped(&mut book);
                }
            }
        }
    }

    fn count_dropped(&self, book: &mut Book) {
        self.dropped.count("store", book.outbox().take_unsent_to_store());
        self.dropped.count("export", book.outbox().take_unsent_to_export());
        self.dropped.count("spans of no run", book.take_unclaimed());
        self.dropped.count("watch", book.outbox().take_unwatched());
    }

    /// Takes a message; whether it was the last.
    fn answer(&self, book: &mut Book, message: Message) -> bool {
        // An asker may have gone; nothing depends on an answer.
        match message {
            // Its place in the queue is free once it has been taken in.
            Message::Event(event, _place) => {
                book.take(event);
                breathe();
            }
            Message::Report { run, reply } => drop(reply.send(book.report(&run))),
            Message::Metrics { reply } => drop(reply.send(book.metrics())),
            Message::Snapshot { reply } => {
                self.count_dropped(book);
                let (runs, active_calls) = (book.latest_reports(), book.active_calls());
                let dropped = self.dropped.list();
                let _gone = reply.send(Snapshot { runs, active_calls, dropped });
            }
            Message::Close { reply } => {
                book.close_all();
                let _gone = reply.send(());
                return true;
            }
        }
        false
    }
}

/// The ledger's task at work.
#[derive(Debug)]
pub struct Running {
    messages: mpsc::Sender<Message>,
    asked: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Running {
    /// Closes open runs, hands what is left to the outlets and ends the task, so that the outlets' senders are gone.
    pub async fn close(self) {
        let (reply, done) = oneshot::channel();
        if self.messages.send(Message::Close { reply }).await.is_ok() {
            self.asked.notify_one();
            // An error says that the task is gone already, which is what was asked for.
            let _gone = done.await;
        }
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the ledger's task failed; runs may be missing");
        }
    }
}
