//! Runs a [`NetTask`] beside the game: on a thread natively, in the event loop of a page. It sleeps
//! until a packet arrives, the game queues something, or a timer is due.

use std::any::Any;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;

use futures::FutureExt;
use futures_timer::Delay;

use super::NetTask;
use crate::transport::exchange::{Exchange, Report};
use crate::transport::network::NetEvent;
use crate::transport::websocket::spawn_network;

/// Starts the task. If it cannot be started, or panics, the game gets [`NetEvent::TaskFailed`].
pub(in crate::transport) fn spawn(task: NetTask) {
    let exchange = Arc::clone(&task.exchange);
    let reports = Arc::clone(&exchange);
    let started = spawn_network(async move {
        // On a page a panic aborts, and the page's own hook reports it.
        if let Err(panic) = AssertUnwindSafe(run(task)).catch_unwind().await {
            let text = panic_text(panic.as_ref());
            fail(&reports, format!("the network task panicked: {text}"));
        }
    });
    if let Err(error) = started {
        fail(
            &exchange,
            format!("the network task cannot be started: {error}"),
        );
    }
}

fn fail(exchange: &Exchange, error: String) {
    exchange.report(Report::Event(NetEvent::TaskFailed { error }));
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

async fn run(mut task: NetTask) {
    let exchange = Arc::clone(&task.exchange);
    let mut timer = Delay::new(task.wait());
    loop {
        task.turn();
        if exchange.is_abandoned() {
            task.network.close();
            return;
        }
        timer.reset(task.wait());
        poll_fn(|cx| {
            let woken = exchange.poll_woken(cx.waker());
            let arrived = task.network.poll_ready(cx).is_ready();
            if woken || arrived || timer.poll_unpin(cx).is_ready() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
