import{I as e,L as s,X as t,ja as m,k as o,la as p,u as r,y as a}from"./chunk-ONK3RRAV.js";export{o as api,p as cacheTiers,m as decisionWindow,r as dom,e as format,s as metadata,t as plot,a as sse};
